"""Reading ahead: objects come before a reader asks for them, singly and in packs, in the background of the network.

Pure: `course.py` (what is likely wanted after a file), `window.py` (how much of it at once), `tally.py` (what came of
it, and whether it pays). A miss begins a `Run` (`run.py`): a course within a window, which grows by what is used. A
`Crew` of threads (`crew.py`) lets the `Gatherer` (`gathering.py`) fetch what runs want: packs (`packs.py`) and small
objects go into the `Larder` (`fs/reader/larder.py`), where readers find them; large ones into the cache. `survey.py`
tells a course what directories hold, `recognition.py` when a program begins whose profile was published. `Ahead`
(`ahead.py`) is the whole.

A reader never waits for any of this longer than its own request would take: see `ObjectSource.get`.
Source: docs/formats/packs.md, docs/formats/profiles.md.
"""

from cernvm.fs.reader.ahead.ahead import Ahead

__all__ = ["Ahead"]

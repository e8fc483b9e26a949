"""All that somebody needs who is to find out what ails a machine's mounts, in one archive, without its secrets.

Flow: `sources.py` lists what there is to be asked, `collecting.py` asks each in a process of its own within its time,
`redaction.py` takes the secrets out of every answer, `archive.py` packs them with a table of contents.
Source: docs/formats/bugreport.md
"""

from cernvm.fs.mount.bugreport.archive import Page, pack
from cernvm.fs.mount.bugreport.collecting import collect
from cernvm.fs.mount.bugreport.redaction import Redactor, is_secret
from cernvm.fs.mount.bugreport.sources import Source, sources

__all__ = ["Page", "Redactor", "Source", "collect", "is_secret", "pack", "sources"]

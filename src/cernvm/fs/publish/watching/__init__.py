"""Publishing a folder whenever it changed: `watch_tree`.

Flow: a `TreeWatch` (`watch`) says when something changed and then nothing for a while, by the kernel's `inotify` where
it can, else by looking at the tree again and again; `keeping` publishes then, and again if the tree changed meanwhile.
"""

from cernvm.fs.publish.watching.keeping import Told, watch_tree

__all__ = ["Told", "watch_tree"]

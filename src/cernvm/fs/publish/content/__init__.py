"""Files, streams and bytes become objects: read, cut, deflate, name, put; on all cores.

Flow: a `ContentWriter` (`writer`) makes `jobs` of what it is given, a `crew` does them: in threads of this process,
and, once there is enough to do, in processes of their own (`link`, `worker`), as Python's threads wait for each other
where files are small. Either way `storing` does one job. Results come in the order in which things were given.
"""

from cernvm.fs.publish.content.progress import Progress
from cernvm.fs.publish.content.recipe import Content, Recipe
from cernvm.fs.publish.content.writer import ContentWriter, open_writer

__all__ = ["Content", "ContentWriter", "Progress", "Recipe", "open_writer"]

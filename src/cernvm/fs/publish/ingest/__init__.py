"""Archives become subtrees of the next revision, without being unpacked to disk.

Flow: `ingest` (`ingesting`) opens a `source` and reads its `Member`s in order: `tar` (`tar_header`, `sparse`), `zips`,
`wheel`, `conda` or the layers of an `oci` image. A `Placer` (`placing`) gives their content to the writer and puts them
into the draft, in the archive's order, as if they were unpacked one after the other.
"""

from cernvm.fs.publish.ingest.ingesting import ingest
from cernvm.fs.publish.ingest.layers import Format, Ingestion

__all__ = ["Format", "Ingestion", "ingest"]

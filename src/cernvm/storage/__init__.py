"""Where outputs go: objects under names, with size and checksum, over HTTP.

`token` is the capability a job gets: one folder, some methods, an end (pure). `port` is `ObjectStorage`; `memory` and
`disk` keep objects, `client` reaches them through `service`, whose errors `problems` translates,
by one timed `exchange` per request.
Reading order: token, port, memory, disk, problems, service, exchange,
client.
"""

from cernvm.storage.client import StorageClient
from cernvm.storage.port import ObjectStorage, Stat
from cernvm.storage.token import Capability, mint_token, read_token

__all__ = ["Capability", "ObjectStorage", "Stat", "StorageClient", "mint_token", "read_token"]

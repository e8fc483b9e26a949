"""One repository's client, put together from settings: net, cache, reader, view. All ways in begin here.

Values: `ClientSettings` (`settings.py`), plain enough to cross a process as JSON. Flow: `open_client` (`opening.py`)
gives a `Client` whose `view` a mount serves, and which the Python API and `cvm fs` read without any mount.
"""

from cernvm.fs.client.opening import OPENING_DEADLINE_S, Client, open_client
from cernvm.fs.client.settings import ClientSettings

__all__ = ["OPENING_DEADLINE_S", "Client", "ClientSettings", "open_client"]

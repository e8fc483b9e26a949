"""Clients nearby give each other the objects and packs that they have fetched; off unless asked for.

Peers exchange objects **as they are stored** by servers, never content: an object's name is the digest of its stored
bytes, so whoever receives it can tell whether it is the right one, and a peer need not be trusted. What was fetched
is therefore kept a second time, as it came, in a bounded `Depot` (docs/decisions/peers-exchange-stored-bytes.md).
Manifests, whitelists and whatever is protected go to servers only.

Values: `Peer` (`peer.py`: an address; which peers to ask for an object first), `PeerSettings`. Pure: `standing.py`
(who is left alone, and for how long), `hearsay.py` (who has asked for an object and so will have it), `messages.py`,
`secret.py`, `throttle.py`. Port: `Neighbours` (who is near), with `ListedNeighbours`, the twin `MemoryNeighbours` and
`ZeroconfNeighbours` (`announcing.py`). Doing: `PeerServer` (`serving.py`) answers, `Asker` (`asking.py`) asks,
`PeerFetcher` (`fetcher.py`) is a `Fetcher` that asks peers with a head start and then the servers; `open_peers` puts
them together. Source: docs/formats/peers.md.
"""

from cernvm.fs.peers.counts import PeerCounts
from cernvm.fs.peers.fetcher import PeerFetcher
from cernvm.fs.peers.neighbours import ListedNeighbours, MemoryNeighbours, Neighbours
from cernvm.fs.peers.opening import Peers, open_peers
from cernvm.fs.peers.peer import Peer, default_port, parse_peer
from cernvm.fs.peers.settings import PeerSettings

__all__ = [
    "ListedNeighbours",
    "MemoryNeighbours",
    "Neighbours",
    "Peer",
    "PeerCounts",
    "PeerFetcher",
    "PeerSettings",
    "Peers",
    "default_port",
    "open_peers",
    "parse_peer",
]

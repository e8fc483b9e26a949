"""The bus: addressed messages with acknowledgement, queued delivery and presence, over XMPP.

`message` is the value and its XML, `delivery` the rules of resending and of telling duplicates (both pure); `port` is
`Bus` and the `Wire` below it. `Mailbox` makes a bus of a wire; `memory` and `xmpp` are the wires, `prosody` the server.
Reading order: message, delivery, port, mailbox, memory, xmpp, scram, prosody.
"""

from cernvm.messaging.mailbox import Mailbox
from cernvm.messaging.memory import MemoryNetwork
from cernvm.messaging.message import Ack, Fields, Message, format_message, parse_message
from cernvm.messaging.port import Bus, Presence, bare_address

__all__ = [
    "Ack",
    "Bus",
    "Fields",
    "Mailbox",
    "MemoryNetwork",
    "Message",
    "Presence",
    "bare_address",
    "format_message",
    "parse_message",
]

"""The bus: addressed messages with queued delivery over XMPP."""

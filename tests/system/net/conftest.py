"""The misbehaving server of the contract suite."""

from contract.net.conftest import mirror

__all__ = ["mirror"]

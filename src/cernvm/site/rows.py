"""Instances between values and rows of the database, and the queries that several actions share."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, select, update

from cernvm.core.errors import NotFoundError
from cernvm.site import schema
from cernvm.site.instance import Instance, Reason, State

IN = schema.INSTANCES.c
LIVE = IN.state != State.TERMINATED.value

_MOVED_COLUMNS = {"state", "reason_code", "reason_text", "changed_at"}


def free_addresses(db: Connection, subnet: IPv4Network) -> list[IPv4Address]:
    """Addresses that nobody holds, those first that were free longest; never the network, the gateway or broadcast."""
    used = select(IN.address, func.max(IN.changed_at)).group_by(IN.address)
    last_used = {row[0]: row[1] for row in db.execute(used)}
    held = set(db.scalars(select(schema.ADDRESSES.c.address)))
    free = [address for address in list(subnet)[2:-1] if str(address) not in held]
    return sorted(free, key=lambda address: last_used.get(str(address), 0.0))


def selected() -> Select[Any]:
    """All instances, by start, reservation and launch index."""
    return select(schema.INSTANCES).order_by(IN.launched_at, IN.reservation_id, IN.launch_index)


def find_instances(db: Connection, query: Select[Any]) -> list[Instance]:
    """The instances that a query selects."""
    return [to_instance(row) for row in db.execute(query)]


def find_instance(db: Connection, instance_id: str, owner_id: str | None) -> Instance:
    """One instance; another owner's is as good as none."""
    row = db.execute(select(schema.INSTANCES).where(IN.instance_id == instance_id)).first()
    if row is None or owner_id not in (None, row.owner_id):
        raise NotFoundError("instance", instance_id, advice="list yours with cvm ls --all")
    return to_instance(row)


def store_move(db: Connection, moved: Instance, console: bytes) -> None:
    """Store an instance's new state; one that ended frees its address and keeps its console."""
    values = {key: value for key, value in to_row(moved).items() if key in _MOVED_COLUMNS}
    if not moved.is_live:
        values["console"] = console
        held = schema.ADDRESSES
        db.execute(delete(held).where(held.c.instance_id == moved.instance_id))
    db.execute(update(schema.INSTANCES).where(IN.instance_id == moved.instance_id).values(**values))


def to_row(instance: Instance) -> dict[str, Any]:
    """An instance as the row of a new one."""
    reason = instance.reason or Reason("", "")
    return {
        "instance_id": instance.instance_id,
        "reservation_id": instance.reservation_id,
        "owner_id": instance.owner_id,
        "image_id": instance.image_id,
        "launch_index": instance.launch_index,
        "instance_type": instance.instance_type,
        "key_name": instance.key_name,
        "groups": list(instance.groups),
        "address": str(instance.address),
        "client_token": instance.client_token,
        "state": instance.state.value,
        "reason_code": reason.code,
        "reason_text": reason.text,
        "launched_at": instance.launched_at.timestamp(),
        "changed_at": instance.changed_at.timestamp(),
        "console": b"",
    }


def to_instance(row: Row[Any]) -> Instance:
    """The instance in a row."""
    return Instance(
        instance_id=row.instance_id,
        reservation_id=row.reservation_id,
        owner_id=row.owner_id,
        image_id=row.image_id,
        launch_index=row.launch_index,
        instance_type=row.instance_type,
        key_name=row.key_name,
        groups=tuple(row.groups),
        address=IPv4Address(row.address),
        state=State(row.state),
        launched_at=datetime.fromtimestamp(row.launched_at, UTC),
        changed_at=datetime.fromtimestamp(row.changed_at, UTC),
        client_token=row.client_token,
        reason=Reason(row.reason_code, row.reason_text) if row.reason_code else None,
    )

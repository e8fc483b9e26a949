"""What a site remembers: owners, access keys, images, reservations, instances and who holds which address.

Everything that was answered to a client is in the database before the answer leaves, so that a site that is killed
at any moment starts again with all its instances, ids and addresses.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, delete, func, insert, select, update

from cernvm.core.clock import Clock, SystemClock
from cernvm.core.errors import ExistsError, NotFoundError, SpaceError
from cernvm.site import schema
from cernvm.site.database import open_database, transaction
from cernvm.site.instance import (
    Image,
    Instance,
    Reason,
    State,
    new_instance_id,
    new_reservation_id,
)
from cernvm.site.query import RunInstances
from cernvm.site.rows import (
    IN,
    LIVE,
    find_instance,
    find_instances,
    free_addresses,
    selected,
    store_move,
    to_instance,
    to_row,
)

TERMINATED_KEEP_S = 3600


@dataclass(frozen=True, slots=True)
class AccessKey:
    """What an owner signs requests with."""

    access_key_id: str
    owner_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return f"AccessKey({self.access_key_id}, {self.owner_id})"


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds new instances: how many may live, and the subnet their addresses come from."""

    instances_max: int
    subnet: IPv4Network


class SiteState:
    """The site's database.

    Concurrency: any thread; each method is one transaction of a few milliseconds.
    """

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._clock = clock or SystemClock()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def ensure_owner(self, owner_id: str) -> AccessKey:
        """The owner's first access key; owner and key are made where there are none."""
        with transaction(self._engine) as db:
            found = db.execute(
                select(schema.ACCESS_KEYS)
                .where(schema.ACCESS_KEYS.c.owner_id == owner_id)
                .order_by(schema.ACCESS_KEYS.c.created_at)
            ).first()
            if found is not None:
                return AccessKey(found.access_key_id, owner_id, found.secret_access_key)
            known = db.execute(
                select(schema.OWNERS).where(schema.OWNERS.c.owner_id == owner_id)
            ).first()
            if known is None:
                db.execute(
                    insert(schema.OWNERS).values(owner_id=owner_id, created_at=self._now_s())
                )
            key = AccessKey(
                f"CVM{secrets.token_hex(8).upper()}", owner_id, secrets.token_urlsafe(30)
            )
            db.execute(
                insert(schema.ACCESS_KEYS).values(
                    access_key_id=key.access_key_id,
                    owner_id=owner_id,
                    secret_access_key=key.secret_access_key,
                    created_at=self._now_s(),
                )
            )
            return key

    def access_key(self, access_key_id: str) -> AccessKey | None:
        """The access key of that id."""
        with transaction(self._engine) as db:
            found = db.execute(
                select(schema.ACCESS_KEYS).where(
                    schema.ACCESS_KEYS.c.access_key_id == access_key_id
                )
            ).first()
        if found is None:
            return None
        return AccessKey(found.access_key_id, found.owner_id, found.secret_access_key)

    def offer_images(self, images: Iterable[Image]) -> None:
        """Make these the images on offer; withdrawn ones stay known for the instances they started."""
        offered = {image.image_id: image for image in images}
        table = schema.IMAGES
        with transaction(self._engine) as db:
            known = set(db.scalars(select(table.c.image_id)))
            db.execute(update(table).values(offered=False))
            for image_id, image in offered.items():
                if image_id in known:
                    db.execute(
                        update(table).where(table.c.image_id == image_id).values(offered=True)
                    )
                else:
                    db.execute(
                        insert(table).values(
                            image_id=image_id,
                            name=image.name,
                            repository=image.repository,
                            offered=True,
                        )
                    )

    def images(self) -> list[tuple[Image, bool]]:
        """Every image ever offered, with whether it still is, by name."""
        with transaction(self._engine) as db:
            rows = db.execute(select(schema.IMAGES).order_by(schema.IMAGES.c.name)).all()
        return [(Image(row.name, row.repository), row.offered) for row in rows]

    def reserve(self, owner_id: str, request: RunInstances, limits: Limits) -> list[Instance]:
        """New pending instances, or those that the same client token made before.

        Errors: `NotFoundError` for the image; `SpaceError` where quota or subnet have no room for `min_count`;
        `ExistsError` for a client token that came with another request.
        """
        digest = _request_digest(request)
        with transaction(self._engine) as db:
            if request.client_token:
                earlier = _earlier(db, owner_id, request.client_token, digest)
                if earlier:
                    return earlier
            _check_image(db, request.image_id)
            free = free_addresses(db, limits.subnet)
            live = db.scalar(select(func.count()).select_from(schema.INSTANCES).where(LIVE)) or 0
            number = min(request.max_count, limits.instances_max - live, len(free))
            if number < request.min_count:
                raise SpaceError(
                    f"{request.min_count} instances were asked for, "
                    f"{live} of {limits.instances_max} are in use and {len(free)} addresses are free",
                    advice="terminate some (cvm terminate), or raise instances_max in site.toml",
                )
            return self._insert(db, owner_id, request, digest, free[:number])

    def instances(self, *, owner_id: str | None = None, live: bool = False) -> list[Instance]:
        """Instances, of one owner or all, ordered by start, reservation and launch index; only live ones if `live`."""
        query = selected()
        if owner_id is not None:
            query = query.where(IN.owner_id == owner_id)
        if live:
            query = query.where(LIVE)
        with transaction(self._engine) as db:
            return find_instances(db, query)

    def instance(self, instance_id: str, *, owner_id: str | None = None) -> Instance:
        """One instance; of nobody else than `owner_id`, if given.

        Errors: `NotFoundError`, also for another owner's instance.
        """
        with transaction(self._engine) as db:
            return find_instance(db, instance_id, owner_id)

    def instance_at(self, address: IPv4Address) -> tuple[Instance, bytes] | None:
        """Who holds an address, with its user-data."""
        held = schema.ADDRESSES
        with transaction(self._engine) as db:
            row = db.execute(
                select(schema.INSTANCES, schema.RESERVATIONS.c.user_data)
                .join(held, held.c.instance_id == IN.instance_id)
                .join(
                    schema.RESERVATIONS, schema.RESERVATIONS.c.reservation_id == IN.reservation_id
                )
                .where(held.c.address == str(address))
            ).first()
        return None if row is None else (to_instance(row), row.user_data)

    def move(
        self, instance_id: str, state: State, *, reason: Reason | None = None, console: bytes = b""
    ) -> Instance:
        """Take an instance to its next state; the last one frees its address and keeps `console`.

        Errors: `ConflictError` for a step that is none, `NotFoundError`.
        """
        with transaction(self._engine) as db:
            moved = find_instance(db, instance_id, None).moved(
                state, at=self._clock.now(), reason=reason
            )
            store_move(db, moved, console)
            return moved

    def request_termination(
        self, instance_ids: Sequence[str], *, owner_id: str, reason: Reason
    ) -> list[tuple[Instance, State]]:
        """Have instances end, all or, where one is unknown, none; each comes with the state it was in before."""
        with transaction(self._engine) as db:
            found = [find_instance(db, instance_id, owner_id) for instance_id in instance_ids]
            changes = []
            for instance in found:
                ending = instance
                if instance.state in (State.PENDING, State.RUNNING):
                    ending = instance.moved(
                        State.SHUTTING_DOWN, at=self._clock.now(), reason=reason
                    )
                    store_move(db, ending, b"")
                changes.append((ending, instance.state))
            return changes

    def console(self, instance_id: str) -> bytes:
        """What was kept of a terminated instance's console."""
        with transaction(self._engine) as db:
            kept: bytes | None = db.scalar(select(IN.console).where(IN.instance_id == instance_id))
        return kept or b""

    def forget_terminated(self, *, older_than_s: float = TERMINATED_KEEP_S) -> int:
        """Delete instances that ended long ago, and their reservations; returns how many."""
        before = (self._clock.now() - timedelta(seconds=older_than_s)).timestamp()
        old = (IN.state == State.TERMINATED.value) & (IN.changed_at < before)
        used = select(IN.reservation_id)
        with transaction(self._engine) as db:
            gone: CursorResult[Any] = db.execute(delete(schema.INSTANCES).where(old))
            db.execute(
                delete(schema.RESERVATIONS).where(
                    schema.RESERVATIONS.c.reservation_id.not_in(used),
                )
            )
            return gone.rowcount

    def _insert(
        self,
        db: Connection,
        owner_id: str,
        request: RunInstances,
        digest: str,
        addresses: Sequence[IPv4Address],
    ) -> list[Instance]:
        now = self._clock.now()
        reservation_id = new_reservation_id()
        db.execute(
            insert(schema.RESERVATIONS).values(
                reservation_id=reservation_id,
                owner_id=owner_id,
                # the column is unique per owner: a request without a token gets one that nobody can guess
                client_token=request.client_token or f"none-{secrets.token_hex(16)}",
                request_digest=digest,
                user_data=request.user_data,
                created_at=now.timestamp(),
            )
        )
        instances = [
            Instance(
                instance_id=new_instance_id(),
                reservation_id=reservation_id,
                owner_id=owner_id,
                image_id=request.image_id,
                launch_index=index,
                instance_type=request.instance_type,
                key_name=request.key_name,
                groups=request.groups,
                address=address,
                state=State.PENDING,
                launched_at=now,
                changed_at=now,
                client_token=request.client_token,
            )
            for index, address in enumerate(addresses)
        ]
        db.execute(insert(schema.INSTANCES), [to_row(instance) for instance in instances])
        db.execute(
            insert(schema.ADDRESSES),
            [{"address": str(i.address), "instance_id": i.instance_id} for i in instances],
        )
        return instances

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def open_state(folder: Path, clock: Clock | None = None) -> SiteState:
    """The state of the site whose folder this is.

    Errors: `ConfigError` for a database that is damaged or of another version.
    """
    return SiteState(open_database(folder), clock)


def _earlier(db: Connection, owner_id: str, token: str, digest: str) -> list[Instance]:
    table = schema.RESERVATIONS
    found = db.execute(
        select(table.c.reservation_id, table.c.request_digest).where(
            table.c.owner_id == owner_id, table.c.client_token == token
        )
    ).first()
    if found is None:
        return []
    if found.request_digest != digest:
        raise ExistsError(
            "client token", token, advice="it was used for another request; use a new one"
        )
    return find_instances(db, selected().where(IN.reservation_id == found.reservation_id))


def _check_image(db: Connection, image_id: str) -> None:
    table = schema.IMAGES
    offered = db.scalar(select(table.c.offered).where(table.c.image_id == image_id))
    if not offered:
        raise NotFoundError("image", image_id, advice="list the images with cvm ls -i")


def _request_digest(request: RunInstances) -> str:
    values = asdict(replace(request, client_token=""))
    values["user_data"] = request.user_data.hex()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

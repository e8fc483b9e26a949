"""The tables of the site's database."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

SCHEMA_VERSION = 1

METADATA = MetaData()

SITE = Table(
    "site",
    METADATA,
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

OWNERS = Table(
    "owners",
    METADATA,
    Column("owner_id", String, primary_key=True),
    Column("created_at", Float, nullable=False),
)

ACCESS_KEYS = Table(
    "access_keys",
    METADATA,
    Column("access_key_id", String, primary_key=True),
    Column("owner_id", ForeignKey("owners.owner_id"), nullable=False, index=True),
    Column("secret_access_key", String, nullable=False),
    Column("created_at", Float, nullable=False),
)

# images that were ever offered, so that an instance of a withdrawn one still starts again with the site
IMAGES = Table(
    "images",
    METADATA,
    Column("image_id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("repository", String, nullable=False),
    Column("offered", Boolean, nullable=False),
)

# the request as a whole; (owner, client token) makes it happen once only
RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("reservation_id", String, primary_key=True),
    Column("owner_id", ForeignKey("owners.owner_id"), nullable=False),
    Column("client_token", String, nullable=False),
    Column("request_digest", String, nullable=False),
    Column("user_data", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("owner_id", "client_token"),
)

INSTANCES = Table(
    "instances",
    METADATA,
    Column("instance_id", String, primary_key=True),
    Column("reservation_id", ForeignKey("reservations.reservation_id"), nullable=False, index=True),
    Column("owner_id", ForeignKey("owners.owner_id"), nullable=False, index=True),
    Column("image_id", ForeignKey("images.image_id"), nullable=False),
    Column("launch_index", Integer, nullable=False),
    Column("instance_type", String, nullable=False),
    Column("key_name", String, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("address", String, nullable=False),
    Column("client_token", String, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("reason_code", String, nullable=False),
    Column("reason_text", String, nullable=False),
    Column("launched_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("console", LargeBinary, nullable=False),  # what was left of it at the end
)

# who holds which address: a row while an instance lives, so that none is given twice
ADDRESSES = Table(
    "addresses",
    METADATA,
    Column("address", String, primary_key=True),
    Column("instance_id", ForeignKey("instances.instance_id"), nullable=False, unique=True),
)

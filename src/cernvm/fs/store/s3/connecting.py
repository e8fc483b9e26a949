"""The connection to an S3 server; nothing else imports boto3."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config

from cernvm.fs.store.s3.settings import S3Settings

_CONNECT_TIMEOUT_S = 10.0


def connect(settings: S3Settings) -> Any:
    """A client that makes one attempt per request and asks for no checksums that old servers do not know."""
    proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None
    if _is_loopback(settings.endpoint):
        proxies = {}  # a proxy of the environment is for the world outside
    addressing: Any = {"addressing_style": settings.addressing}
    # a session of its own: boto3's default one is shared, and not safe to make clients from several threads
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=settings.endpoint or None,
        region_name=settings.region,
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=settings.secret_key or None,
        aws_session_token=settings.session_token or None,
        config=botocore.config.Config(
            signature_version=settings.signature,
            s3=addressing,
            connect_timeout=min(_CONNECT_TIMEOUT_S, settings.timeout_s),
            read_timeout=settings.timeout_s,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=settings.lanes,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies=proxies,
        ),
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

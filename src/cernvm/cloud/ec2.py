"""The EC2 driver: any cloud that speaks the EC2 Query API, our own site first, through boto3.

boto3 blocks and is slow to import, so both happen in a thread, once it is really used. It retries what may be retried
(by server-side error code) and signs; everything it raises becomes one of our errors here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import boto3
import botocore.config
from anyio import to_thread
from botocore import exceptions as boto_errors

from cernvm.cloud.port import Image, Instance, RunRequest
from cernvm.cloud.region import Region
from cernvm.core.errors import (
    ConflictError,
    CvmError,
    DeadlineError,
    DeniedError,
    ExistsError,
    ExpiredError,
    HostError,
    InvalidInputError,
    NotFoundError,
    SpaceError,
)

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
ATTEMPTS = 4
CALL_DEADLINE_S = 150.0

T = TypeVar("T")

_DENIED = {
    "AuthFailure", "InvalidAccessKeyId", "InvalidClientTokenId", "OptInRequired", "SignatureDoesNotMatch",
    "UnauthorizedOperation",
}  # fmt: skip
_FULL = {"InstanceLimitExceeded", "InsufficientInstanceCapacity", "VcpuLimitExceeded"}
_WRONG_REQUEST = ("Invalid", "Malformed", "Missing", "Unknown", "Unsupported")


@dataclass(slots=True)
class Ec2Cloud:
    """One region over the EC2 Query API."""

    region: Region
    _client: Any = None
    _connecting: anyio.Lock = field(default_factory=anyio.Lock)

    async def run(self, request: RunRequest) -> list[Instance]:
        return await self._call(
            lambda client: _instances([client.run_instances(**_run_arguments(request))]),
            names=(request.image_id, request.client_token),
        )

    async def instances(self, instance_ids: Sequence[str] = ()) -> list[Instance]:
        chosen = {"InstanceIds": list(instance_ids)} if instance_ids else {}

        def describe(client: Any) -> list[Instance]:
            pages = client.get_paginator("describe_instances").paginate(**chosen)
            return _instances(each for page in pages for each in page["Reservations"])

        return await self._call(describe, names=instance_ids)

    async def images(self, image_ids: Sequence[str] = ()) -> list[Image]:
        chosen = {"ImageIds": list(image_ids)} if image_ids else {}
        return await self._call(
            lambda client: [_image(row) for row in client.describe_images(**chosen)["Images"]],
            names=image_ids,
        )

    async def terminate(self, instance_ids: Sequence[str]) -> list[tuple[str, str]]:
        if not instance_ids:
            return []
        return await self._call(
            lambda client: [
                (row["InstanceId"], row["CurrentState"]["Name"])
                for row in client.terminate_instances(InstanceIds=list(instance_ids))[
                    "TerminatingInstances"
                ]
            ],
            names=instance_ids,
        )

    async def console(self, instance_id: str) -> bytes:
        # boto3 has decoded the base64 already, losing bytes that are no UTF-8
        return await self._call(
            lambda client: str(
                client.get_console_output(InstanceId=instance_id).get("Output", "")
            ).encode(),
            names=(instance_id,),
        )

    async def _call(self, call: Callable[[Any], T], *, names: Iterable[str]) -> T:
        """Do `call` in a thread, within the deadline; `names` are those a NotFound may be about."""
        async with self._connecting:
            if self._client is None:
                self._client = await to_thread.run_sync(self._connect)
        try:
            with anyio.fail_after(CALL_DEADLINE_S):
                return await to_thread.run_sync(call, self._client, abandon_on_cancel=True)
        except TimeoutError:
            raise DeadlineError(f"asking {self._where}", after_s=CALL_DEADLINE_S) from None
        except boto_errors.ClientError as error:
            raise self._from_answer(error, names) from error
        except boto_errors.BotoCoreError as error:
            raise self._from_library(error) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise HostError(self._where, "its answer makes no sense") from error

    def _connect(self) -> Any:
        try:
            return boto3.session.Session().client(
                "ec2",
                endpoint_url=self.region.url or None,
                region_name=self.region.signing_region,
                aws_access_key_id=self.region.access_key_id,
                aws_secret_access_key=self.region.secret_access_key,
                config=botocore.config.Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
                    # a proxy of the environment is for the world outside
                    proxies={} if _is_loopback(self.region.url) else None,
                ),
            )
        except (boto_errors.BotoCoreError, ValueError) as error:
            raise self._from_library(error) from error

    @property
    def _where(self) -> str:
        return self.region.url or f"EC2 {self.region.signing_region}"

    def _from_answer(self, error: boto_errors.ClientError, names: Iterable[str]) -> CvmError:
        """What an error code of the cloud means. Source: docs/formats/ec2.md, "Errors"."""
        details: Mapping[str, Any] = error.response.get("Error", {})
        code, text = str(details.get("Code", "")), str(details.get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if ".NotFound" in code:
            kind = "image" if "AMI" in code else "instance"
            named = [name for name in names if name and name in text]
            listing = "cvm ls -i" if kind == "image" else "cvm ls --all"
            return NotFoundError(
                kind, named[0] if named else text, advice=f"{listing} shows what there is"
            )
        if code == "IdempotentParameterMismatch":
            return ExistsError("client token", next(iter(names), ""), advice=text)
        if code in _DENIED:
            return DeniedError(
                f"{self._where} refuses the credentials: {text}",
                advice=f"check {self.region.source}",
            )
        if code in ("RequestExpired", "ExpiredToken"):
            return ExpiredError(text, advice="set this machine's clock")
        if code in _FULL:
            return SpaceError(text)
        if code.startswith("Incorrect"):
            return ConflictError(text)
        if status < 500 and code.startswith(_WRONG_REQUEST):
            return InvalidInputError(
                f"{self._where} refuses the request: {text}",
                advice="`cvm -H ls` lists instances, `cvm -H ls -i` images",
            )
        return HostError(self._where, f"{code}: {text}", status=status)

    def _from_library(self, error: Exception) -> CvmError:
        """What it means that boto3 had no answer to read."""
        if isinstance(error, boto_errors.ReadTimeoutError):
            return DeadlineError(f"asking {self._where}", after_s=READ_TIMEOUT_S)
        if isinstance(error, boto_errors.ParamValidationError | ValueError):
            return InvalidInputError(str(error))
        if isinstance(error, boto_errors.ConnectionError | boto_errors.HTTPClientError):
            advice = "`cvm site status` shows whether your own site runs" if self.region.url else ""
            return HostError(self._where, "it does not answer", advice=advice)
        return HostError(self._where, str(error))


def _run_arguments(request: RunRequest) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "ImageId": request.image_id,
        "MinCount": request.min_count,
        "MaxCount": request.max_count,
        "InstanceType": request.instance_type,
        "KeyName": request.key_name,
        "SecurityGroups": list(request.groups),
        "UserData": request.user_data,
        "ClientToken": request.client_token,
    }
    return {name: value for name, value in arguments.items() if value}


def _instances(reservations: Iterable[Mapping[str, Any]]) -> list[Instance]:
    return [
        _instance(row, reservation)
        for reservation in reservations
        for row in sorted(reservation["Instances"], key=lambda row: row.get("AmiLaunchIndex", 0))
    ]


def _instance(row: Mapping[str, Any], reservation: Mapping[str, Any]) -> Instance:
    groups = row.get("SecurityGroups") or reservation.get("Groups") or []
    reason = row.get("StateReason") or {}
    return Instance(
        instance_id=row["InstanceId"],
        reservation_id=reservation.get("ReservationId", ""),
        owner=reservation.get("OwnerId", ""),
        groups=tuple(group["GroupName"] for group in groups),
        image_id=row.get("ImageId", ""),
        state=row["State"]["Name"],
        launch_index=int(row.get("AmiLaunchIndex", 0)),
        instance_type=row.get("InstanceType", ""),
        launched_at=row.get("LaunchTime", datetime.fromtimestamp(0, UTC)),
        address=row.get("PublicIpAddress") or row.get("PrivateIpAddress") or "",
        dns=row.get("PublicDnsName") or row.get("PrivateIpAddress") or "",
        key_name=row.get("KeyName", ""),
        zone=row.get("Placement", {}).get("AvailabilityZone", ""),
        reason=reason.get("Message") or row.get("StateTransitionReason", ""),
    )


def _image(row: Mapping[str, Any]) -> Image:
    return Image(
        image_id=row["ImageId"],
        name=row.get("Name", ""),
        location=row.get("ImageLocation", ""),
        state=row.get("State", ""),
        is_public=bool(row.get("Public")),
        architecture=row.get("Architecture", ""),
        kind=row.get("ImageType", "machine"),
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""EC2 Query responses as XML, in the form that boto3 and the EC2 tools parse.

Source: docs/formats/ec2.md, "Responses".
"""

from __future__ import annotations

import base64
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from xml.etree import ElementTree as ET  # written, never parsed

from cernvm.site.instance import Image, Instance, State
from cernvm.site.problems import Problem

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"

# containers run on the site's own processor; EC2 has its own word for one kind
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# a leaf's text, a list of <item>s, or an element of named children; None leaves the element out
Node = str | Sequence["Node"] | Mapping[str, "Node | None"]


def run_response(instances: Sequence[Instance], request_id: str) -> bytes:
    """The reservation that RunInstances made."""
    return _document("RunInstancesResponse", request_id, _reservation(instances))


def instances_response(instances: Iterable[Instance], request_id: str) -> bytes:
    """DescribeInstances; `instances` come ordered by reservation."""
    reservations = [
        _reservation(list(members))
        for _, members in groupby(instances, key=lambda instance: instance.reservation_id)
    ]
    return _document("DescribeInstancesResponse", request_id, {"reservationSet": reservations})


def images_response(images: Iterable[tuple[Image, bool]], owner_id: str, request_id: str) -> bytes:
    """DescribeImages; each image comes with whether it is still offered."""
    items = [_image(image, offered=offered, owner_id=owner_id) for image, offered in images]
    return _document("DescribeImagesResponse", request_id, {"imagesSet": items})


def terminate_response(changes: Iterable[tuple[Instance, State]], request_id: str) -> bytes:
    """TerminateInstances; each instance comes with the state it was in before."""
    items: list[Node] = [
        {
            "instanceId": instance.instance_id,
            "currentState": _state(instance.state),
            "previousState": _state(before),
        }
        for instance, before in changes
    ]
    return _document("TerminateInstancesResponse", request_id, {"instancesSet": items})


def console_response(instance_id: str, console: bytes, read_at: datetime, request_id: str) -> bytes:
    """GetConsoleOutput; the console's bytes travel as base64."""
    return _document(
        "GetConsoleOutputResponse",
        request_id,
        {
            "instanceId": instance_id,
            "timestamp": _time(read_at),
            "output": base64.b64encode(console).decode(),
        },
    )


def regions_response(name: str, endpoint: str, request_id: str) -> bytes:
    """DescribeRegions: this one."""
    region = {
        "regionName": name,
        "regionEndpoint": endpoint,
        "optInStatus": "opt-in-not-required",
    }
    return _document("DescribeRegionsResponse", request_id, {"regionInfo": [region]})


def error_response(problem: Problem, request_id: str) -> bytes:
    """An error, as EC2 wraps it."""
    root = ET.Element("Response")
    error = {"Code": problem.code, "Message": problem.message}
    _fill(ET.SubElement(root, "Errors"), {"Error": error})
    ET.SubElement(root, "RequestID").text = request_id
    return _bytes(root)


def _reservation(instances: Sequence[Instance]) -> dict[str, Node | None]:
    first = instances[0]
    return {
        "reservationId": first.reservation_id,
        "ownerId": first.owner_id,
        "groupSet": [{"groupId": group, "groupName": group} for group in first.groups],
        "instancesSet": [_instance(instance) for instance in instances],
    }


def _instance(instance: Instance) -> dict[str, Node | None]:
    reason = instance.reason
    # EC2 shows no address and no name for what is gone
    address = str(instance.address) if instance.is_live else ""
    return {
        "instanceId": instance.instance_id,
        "imageId": instance.image_id,
        "instanceState": _state(instance.state),
        "privateDnsName": instance.hostname if address else "",
        "dnsName": address,
        "reason": reason.text if reason else "",
        "keyName": instance.key_name or None,
        "amiLaunchIndex": str(instance.launch_index),
        "instanceType": instance.instance_type,
        "launchTime": _time(instance.launched_at),
        "placement": {"availabilityZone": "default", "tenancy": "default"},
        "privateIpAddress": address or None,
        "ipAddress": address or None,
        "groupSet": [{"groupId": group, "groupName": group} for group in instance.groups],
        "stateReason": {"code": reason.code, "message": reason.text} if reason else None,
        "architecture": ARCHITECTURE,
        "rootDeviceType": "instance-store",
        "virtualizationType": "container",
        "hypervisor": "linux",
        "clientToken": instance.client_token or None,
    }


def _image(image: Image, *, offered: bool, owner_id: str) -> dict[str, Node | None]:
    return {
        "imageId": image.image_id,
        "imageLocation": f"{image.repository}/{image.name}",
        "imageState": "available" if offered else "deregistered",
        "imageOwnerId": owner_id,
        "isPublic": "true",
        "architecture": ARCHITECTURE,
        "imageType": "machine",
        "name": image.name,
        "rootDeviceType": "instance-store",
        "virtualizationType": "container",
        "hypervisor": "linux",
    }


def _state(state: State) -> dict[str, Node | None]:
    return {"code": str(state.code), "name": state.value}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _document(name: str, request_id: str, content: Mapping[str, Node | None]) -> bytes:
    root = ET.Element(name, xmlns=NAMESPACE)
    _fill(root, {"requestId": request_id, **content})
    return _bytes(root)


def _fill(element: ET.Element, node: Node) -> None:
    if isinstance(node, str):
        element.text = _only_xml(node)
    elif isinstance(node, Mapping):
        for name, child in node.items():
            if child is not None:
                _fill(ET.SubElement(element, name), child)
    else:
        for item in node:
            _fill(ET.SubElement(element, "item"), item)


def _only_xml(text: str) -> str:
    # XML 1.0 has no way to write most control characters
    return _NOT_XML.sub("?", text)


def _bytes(root: ET.Element) -> bytes:
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document

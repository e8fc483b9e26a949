"""Our responses through the parser of the AWS SDK."""

from datetime import UTC, datetime
from ipaddress import IPv4Address

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from cernvm.site import xml
from cernvm.site.instance import Image, Instance, State, failed
from cernvm.site.problems import Problem

AT = datetime(2026, 11, 21, 12, 30, 1, tzinfo=UTC)
MODEL = botocore.session.get_session().get_service_model("ec2")


def parsed(operation, document, status=200):
    shape = MODEL.operation_model(operation).output_shape
    return create_parser("ec2").parse(
        {"body": document, "headers": {}, "status_code": status}, shape
    )


def instance(**changes):
    values = {
        "instance_id": "i-00000001", "reservation_id": "r-1", "owner_id": "predrag", "image_id": "ami-1",
        "launch_index": 3, "instance_type": "m1.small", "key_name": "", "groups": ("default",),
        "address": IPv4Address("10.77.0.9"), "state": State.RUNNING, "launched_at": AT, "changed_at": AT,
    }  # fmt: skip
    return Instance(**{**values, **changes})


def test_the_sdk_reads_an_instance():
    answer = parsed("DescribeInstances", xml.instances_response([instance()], "id"))

    (reservation,) = answer["Reservations"]
    (shown,) = reservation["Instances"]
    assert reservation["OwnerId"] == "predrag"
    assert shown["State"] == {"Code": 16, "Name": "running"}
    assert (shown["PublicDnsName"], shown["AmiLaunchIndex"]) == ("10.77.0.9", 3)
    assert shown["LaunchTime"] == AT


def test_instances_are_grouped_by_reservation():
    several = [instance(), instance(instance_id="i-00000002"), instance(reservation_id="r-2")]

    answer = parsed("DescribeInstances", xml.instances_response(several, "id"))

    assert [len(each["Instances"]) for each in answer["Reservations"]] == [2, 1]


def test_what_ended_shows_no_address_but_its_reason():
    gone = instance(state=State.TERMINATED, reason=failed("the disk is full"))

    answer = parsed("DescribeInstances", xml.instances_response([gone], "id"))

    shown = answer["Reservations"][0]["Instances"][0]
    assert "PublicIpAddress" not in shown
    assert shown["StateReason"] == {"Code": "Server.InternalError", "Message": "the disk is full"}


def test_the_sdk_reads_images():
    document = xml.images_response([(Image("cernvm", "os.cernvm.test"), True)], "site", "id")

    (image,) = parsed("DescribeImages", document)["Images"]
    assert (image["Name"], image["State"], image["Public"]) == ("cernvm", "available", True)


@given(st.text(max_size=50))
def test_no_text_breaks_the_document(text):
    document = xml.error_response(Problem("Code", 400, text), "id")

    error = create_parser("ec2").parse(
        {"body": document, "headers": {}, "status_code": 400},
        MODEL.operation_model("DescribeInstances").output_shape,
    )["Error"]
    assert error["Code"] == "Code"


@pytest.mark.parametrize("console", [b"", b"\x00\xff\x1b[31m", b"x" * 65536])
def test_a_console_travels_as_bytes(console):
    document = xml.console_response("i-00000001", console, AT, "id")

    import base64

    assert base64.b64decode(parsed("GetConsoleOutput", document).get("Output", "")) == console

import base64
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.core.errors import CvmError, FormatError, InvalidInputError, NotFoundError
from cernvm.site.query import (
    MAX_USER_DATA_BYTES,
    DescribeInstances,
    Filter,
    RunInstances,
    TerminateInstances,
    parse_request,
)

RUN = {
    "Action": "RunInstances",
    "Version": "2016-11-15",
    "ImageId": "ami-0123abcd",
    "MinCount": "1",
    "MaxCount": "2",
}


def parse(**parameters):
    return parse_request(urlencode(parameters))


def test_a_run_request_with_everything_is_read():
    request = parse_request(
        urlencode(
            {
                **RUN,
                "InstanceType": "m1.large",
                "KeyName": "my key",
                "SecurityGroup.1": "web",
                "SecurityGroup.2": "db",
                "UserData": base64.b64encode(b"[cernvm]\n").decode(),
                "ClientToken": "token-1",
            }
        )
    )

    assert request == RunInstances(
        "ami-0123abcd", 1, 2, "m1.large", "my key", ("web", "db"), b"[cernvm]\n", "token-1"
    )


def test_defaults_are_the_seeds():
    request = parse_request(urlencode(RUN))

    assert (request.instance_type, request.groups, request.user_data) == (
        "m1.small",
        ("default",),
        b"",
    )


def test_filters_are_read_in_order():
    request = parse_request(
        urlencode(
            {
                "Action": "DescribeInstances",
                "InstanceId.2": "i-00000002",
                "InstanceId.1": "i-00000001",
                "Filter.1.Name": "instance-state-name",
                "Filter.1.Value.1": "running",
                "Filter.1.Value.2": "pend*",
            }
        )
    )

    assert request == DescribeInstances(
        ("i-00000001", "i-00000002"), (Filter("instance-state-name", ("running", "pend*")),)
    )


def test_a_repeated_id_counts_once():
    request = parse_request(
        "Action=TerminateInstances&InstanceId.1=i-00000001&InstanceId.2=i-00000001"
    )

    assert request == TerminateInstances(("i-00000001",))


@pytest.mark.parametrize(
    ("pattern", "value", "passes"),
    [
        ("run*", "running", True),
        ("r?nn*", "running", True),
        ("[p]ending", "pending", False),
        ("run", "running", False),
    ],
)
def test_a_filter_knows_stars_and_question_marks_only(pattern, value, passes):
    assert Filter("x", (pattern,)).accepts(value) is passes


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ImageId": "../../etc"}, "ImageId"),
        ({"MinCount": "0"}, "MinCount"),
        ({"MinCount": "-1"}, "MinCount"),
        ({"MaxCount": "1001"}, "MaxCount"),
        ({"MaxCount": "٣"}, "MaxCount"),
        ({"MinCount": "3"}, "MaxCount"),
        ({"UserData": "!!"}, "UserData"),
        ({"UserData": base64.b64encode(bytes(MAX_USER_DATA_BYTES + 1)).decode()}, "UserData"),
        ({"InstanceType": "huge"}, "InstanceType"),
        ({"SecurityGroup.1": "a\nb"}, "SecurityGroup"),
        ({"ClientToken": "x" * 65}, "ClientToken"),
        ({"Monitoring.Enabled": "true"}, "Monitoring.Enabled"),
        ({"Filter.1.Name": "x"}, "Filter.1.Name"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(change, named):
    with pytest.raises(InvalidInputError, match=named.replace(".", r"\.")):
        parse_request(urlencode({**RUN, **change}))


def test_a_missing_parameter_is_named():
    with pytest.raises(InvalidInputError, match="ImageId"):
        parse(Action="RunInstances", MinCount="1", MaxCount="1")


def test_an_unknown_action_is_no_action():
    with pytest.raises(NotFoundError) as caught:
        parse(Action="DescribeVolumes")

    assert caught.value.kind == "action"


@pytest.mark.parametrize(
    "text", ["a", "Action=DescribeRegions&Action=RunInstances", "=&" * 3000, "Action=%ff"]
)
def test_what_is_no_form_is_refused(text):
    with pytest.raises(FormatError):
        parse_request(text)


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text):
    try:
        parse_request(text)
    except CvmError:
        pass


ACTIONS = ["RunInstances", "DescribeInstances", "DescribeImages", "TerminateInstances"]
NAMES = st.from_regex(
    r"(InstanceId|Filter|SecurityGroup|ImageId|UserData|MinCount)(\.\d{1,5})?(\.(Name|Value))?(\.\d)?",
    fullmatch=True,
)


@given(st.sampled_from(ACTIONS), st.dictionaries(NAMES, st.text(max_size=20), max_size=8))
def test_no_parameters_break_the_parser(action, parameters):
    try:
        parse_request(urlencode({"Action": action, **parameters}))
    except CvmError:
        pass

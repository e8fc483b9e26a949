import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.cloud.launch import (
    Launched,
    TemplateOrder,
    find_image,
    follow,
    launch,
    parse_count,
    parse_templates,
    parse_variables,
    plan_launch,
)
from cernvm.cloud.memory import MemoryCloud
from cernvm.cloud.port import RUNNING, TERMINATED, Image, RunRequest
from cernvm.core.errors import (
    ContextFormatError,
    CvmError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)

IMAGE = Image("ami-00000003", "cernvm", "here/cernvm", "available", True, "x86_64")
BASE = RunRequest(IMAGE.image_id, client_token="t")


def test_a_template_with_index_gives_each_instance_its_own_user_data():
    requests = plan_launch(
        BASE,
        [
            (TemplateOrder("head", 1), "head [[INDEX]]"),
            (TemplateOrder("worker", 2), "[[NAME]] [[INDEX]]"),
        ],
        {"NAME": "wn"},
    )

    assert [request.user_data for request in requests] == [b"head 1", b"wn 1", b"wn 2"]
    assert len({request.client_token for request in requests}) == 3


def test_a_template_without_index_is_one_reservation():
    (request,) = plan_launch(BASE, [(TemplateOrder("worker", 10), "[cernvm]\n")], {})

    assert (request.min_count, request.max_count, request.client_token) == (10, 10, "t")


def test_every_launch_has_a_client_token():
    one = plan_launch(RunRequest("ami-1"), [], {})
    two = plan_launch(RunRequest("ami-1"), [], {})

    assert one[0].client_token
    assert one[0].client_token != two[0].client_token


def test_a_variable_that_nobody_gave_stops_the_launch():
    with pytest.raises(ContextFormatError, match="NAME"):
        plan_launch(BASE, [(TemplateOrder("worker", 1), "[[NAME]]")], {})


def test_a_variable_that_no_template_has_stops_the_launch():
    with pytest.raises(InvalidInputError, match="has no variable PROXI") as refused:
        plan_launch(BASE, [(TemplateOrder("worker", 1), "[[NAME]] [[PROXY]]")], {"PROXI": "x"})
    assert refused.value.advice == "did you mean PROXY?"


@pytest.mark.parametrize("text", ["", "0", "a", "3-", "-3", "1-2-3", "99999", "٣"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_count(text)


@pytest.mark.parametrize("text", ["", "a:b", ":3", "a:3,,b", "a:0", "a:-1", "a:1-2"])
def test_what_is_no_template_order_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_templates(text)


@pytest.mark.parametrize("text", ["", "a", "=1", "1=2", "a b=1"])
def test_what_is_no_variable_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_variables([text])


@given(st.text(max_size=40))
def test_no_word_breaks_the_parsers(text):
    for parse in (parse_count, parse_templates, lambda word: parse_variables([word])):
        try:
            parse(text)
        except CvmError:
            pass


def test_a_failure_tells_what_was_started_before():
    cloud = MemoryCloud((IMAGE,), quota=2)
    requests = [RunRequest(IMAGE.image_id), RunRequest(IMAGE.image_id), RunRequest(IMAGE.image_id)]

    done = anyio.run(launch, cloud, requests)

    assert isinstance(done, Launched)
    assert len(done.instances) == 2
    assert "quota" in done.error.what


def test_an_image_is_found_by_name_or_id():
    cloud = MemoryCloud((IMAGE,))

    assert anyio.run(find_image, cloud, "cernvm") == "ami-00000003"
    assert anyio.run(find_image, cloud, "ami-ffffffff") == "ami-ffffffff"


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(NotFoundError) as caught:
        anyio.run(find_image, MemoryCloud((IMAGE,)), "debian")
    assert "cernvm" in caught.value.advice


def test_two_images_of_one_name_are_not_guessed_at():
    other = Image("ami-00000004", "cernvm", "there/cernvm", "available", True, "x86_64")

    with pytest.raises(InvalidInputError, match="2 images"):
        anyio.run(find_image, MemoryCloud((IMAGE, other)), "cernvm")


def test_following_ends_when_all_run():
    async def story():
        cloud = MemoryCloud((IMAGE,))
        (one,) = await cloud.run(RunRequest(IMAGE.image_id))
        following = follow(cloud, [one.instance_id], state=RUNNING, deadline_s=5)
        return [each.state async for each in following]

    assert anyio.run(story) == [RUNNING]


def test_following_names_one_that_ended():
    async def story():
        cloud = MemoryCloud((IMAGE,))
        (one,) = await cloud.run(RunRequest(IMAGE.image_id))
        await cloud.terminate([one.instance_id])
        async for _ in follow(cloud, [one.instance_id], state=RUNNING, deadline_s=5):
            pass

    with pytest.raises(UnavailableError, match="ended"):
        anyio.run(story)


def test_following_has_a_deadline():
    async def story():
        cloud = MemoryCloud((IMAGE,))
        (one,) = await cloud.run(RunRequest(IMAGE.image_id))
        async for _ in follow(cloud, [one.instance_id], state=TERMINATED, deadline_s=0):
            pass

    with pytest.raises(DeadlineError):
        anyio.run(story)

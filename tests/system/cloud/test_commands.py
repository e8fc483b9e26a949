"""The seed's session: `cvm run`, `ls`, `terminate`, `console` as a person types them."""

import json

import pytest

from cernvm.cloud.ec2 import Ec2Cloud
from cernvm.cloud.region import Region
from cernvm.core.errors import HostError


def rows(finished):
    return json.loads(finished.stdout)


def user_data(site, instance_id):
    from cernvm.site.state import open_state

    state = open_state(site.home.site)
    instance = state.instance(instance_id)
    found = state.instance_at(instance.address)
    state.close()
    return found[1]


def test_images_are_listed_with_the_seeds_headings(on):
    heading, line = on("--region", "local", "-H", "ls", "-i").stdout.splitlines()

    assert heading.split() == ["AMI", "LOCATION", "STATE", "VISIBILITY", "ARCH", "TYPE"]
    assert line.split()[1:4] == ["os.cernvm.test/cernvm-devel", "available", "Public"]


def test_user_data_that_an_instance_would_refuse_is_told_before_it_boots(on):
    image = on("ls", "-i").stdout.split()[0]

    started = on("run", image, "-d", "[cernvm]\norganisation = atlas\n")

    assert "line 2" in started.stderr
    assert "organisations" in started.stderr
    assert started.stdout.split()[0].startswith("r-")


def test_the_seeds_session(on, tmp_path):
    (tmp_path / "panda-wn.tpl").write_text(
        "[cernvm]\norganisations = atlas\n[[IF X509_CERT]]x509-cert = [[X509_CERT]][[ENDIF]]\n"
    )
    image = on("ls", "-i").stdout.split()[0]

    started = on("run", image, "--template", "panda-wn:3").stdout.splitlines()
    on("run", image, "--wait")
    listed = on("--region", "local", "-H", "ls").stdout.splitlines()

    assert len(started) == 3
    assert len({line.split()[0] for line in started}) == 1  # one reservation
    assert all("pending" in line for line in started)
    assert listed[0].split() == ["ID", "RID", "OWNER", "GROUP", "DNS", "STATE", "KEY", "TYPE"]
    assert len(listed) == 5
    assert "running" in listed[-1]


def test_index_tells_a_templates_instances_apart(on, site, tmp_path):
    (tmp_path / "wn.tpl").write_text("[hostname]\nhostname = [[NAME]][[INDEX]]\n")

    started = rows(on("run", "cernvm-devel", "-T", "wn:2", "NAME=node", "--json"))

    found = [user_data(site, each["id"]) for each in started]
    assert found == [b"[hostname]\nhostname = node1\n", b"[hostname]\nhostname = node2\n"]


def test_user_data_comes_from_the_line_a_file_or_standard_input(on, site, tmp_path):
    (tmp_path / "data").write_bytes(b"\x1f\x8bbinary")

    (one,) = rows(on("run", "cernvm-devel", "-d", "text", "--json"))
    (two,) = rows(on("run", "cernvm-devel", "-f", "data", "--json"))
    (three,) = rows(on("run", "cernvm-devel", "-f", "-", "--json", text_in="piped"))

    assert [user_data(site, each["id"]) for each in (one, two, three)] == [
        b"text", b"\x1f\x8bbinary", b"piped",
    ]  # fmt: skip


def test_key_group_and_type_are_shown(on):
    (line,) = on(
        "run", "cernvm-devel", "-k", "ami", "-g", "web", "-g", "db", "-t", "m1.large"
    ).stdout.splitlines()

    assert {"ami", "web,db", "m1.large"} <= set(line.split())


def test_repeating_a_command_with_its_token_starts_nothing_twice(on):
    command = ("run", "cernvm-devel", "-n", "2", "--client-token", "mine", "--json")

    assert [i["id"] for i in rows(on(*command))] == [i["id"] for i in rows(on(*command))]


def test_terminated_ones_are_listed_when_asked_for(on):
    (one,) = rows(on("run", "cernvm-devel", "--json"))

    on("terminate", one["id"], "--wait")

    assert one["id"] not in on("ls").stdout
    assert one["id"] in on("ls", "--all").stdout
    assert "terminated" in on("ls", one["id"]).stdout


def test_a_console_is_shown_to_its_end_when_followed(on):
    (one,) = rows(on("run", "cernvm-devel", "--wait", "--json"))
    on("terminate", one["id"])

    shown = on("console", one["id"], "--follow").stdout

    assert shown.count("cernvm-init") == 1


def test_what_was_started_before_a_failure_is_told(on, tmp_path):
    (tmp_path / "wn.tpl").write_text("[[INDEX]]")

    failed = on("run", "cernvm-devel", "-T", "wn:12", check=False)

    assert failed.returncode == 32
    started = [line.split()[3] for line in failed.stdout.splitlines()]
    assert len(started) == 8
    assert f"cvm terminate {' '.join(started)}" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("run", "no-such-image"), 12, "this cloud offers: cernvm-devel"),
        (("run", "ami-00000000"), 12, "ami-00000000"),
        (("run", "cernvm-devel", "-T", "nowhere"), 12, "nowhere"),
        (("run", "cernvm-devel", "-n", "0"), 11, "'0'"),
        (("run", "cernvm-devel", "-d", "x" * 70_000), 11, "UserData"),
        (("run", "cernvm-devel", "A=1"), 2, "--template"),
        (("run", "cernvm-devel", "-d", "x", "-T", "y"), 2, "choose one"),
        (("ls", "i-00000000"), 12, "i-00000000"),
        (("terminate", "i-00000000"), 12, "i-00000000"),
        (("terminate",), 2, "--all"),
        (("console", "i-00000000"), 12, "i-00000000"),
        (("--region", "moon", "ls"), 12, "moon"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(on, arguments, status, words):
    failed = on(*arguments, check=False)

    assert failed.returncode == status
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr


def test_wrong_credentials_name_the_file(on, site, tmp_path):
    text = (site.home.clouds / "local.conf").read_text()
    (tmp_path / "other.conf").write_text(
        text.replace("secret_access_key = ", "secret_access_key = x")
    )

    failed = on("--region", "other", "ls", check=False)

    assert failed.returncode == 14
    assert "other.conf" in failed.stderr


@pytest.mark.anyio
async def test_a_cloud_that_is_away_is_named():
    cloud = Ec2Cloud(Region("gone", "a", "b", "http://127.0.0.1:9", "gone"))

    with pytest.raises(HostError, match="127.0.0.1:9"):
        await cloud.instances()


@pytest.fixture
def anyio_backend():
    return "asyncio"

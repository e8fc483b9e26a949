"""What the story tells other rooms is what they understand."""

from io import StringIO

import pytest
from rich.console import Console

from cernvm.box.commands import Commands
from cernvm.box.screen import Screen
from cernvm.box.steps import STEPS
from cernvm.box.story import Options, Story, instance_of, write_site_config
from cernvm.core.config import read_toml
from cernvm.site.config import SiteConfig


@pytest.fixture
def story(home):
    home.run.mkdir(parents=True)
    screen = Screen(Console(file=StringIO(), width=200))
    told = Story(home, Options(report=home.demo, instances=20), Commands(home, {}), screen)
    told.addresses = {"repo": "127.0.0.1:1", "bus": "127.0.0.1:2", "storage": "127.0.0.1:3"}
    return told


def test_the_site_understands_its_configuration(story):
    config = read_toml(write_site_config(story), SiteConfig)
    assert [image.repository for image in config.images] == ["os.cernvm.test"]
    assert {repository.name for repository in config.repositories} == {
        "os.cernvm.test",
        "sft.cernvm.test",
    }
    assert {(forward.port, forward.target) for forward in config.forwards} == {
        (5222, "127.0.0.1:2"),
        (8080, "127.0.0.1:3"),
    }
    assert str(config.gateway) == "10.77.0.1"
    assert config.instances_max >= 20


def test_every_step_says_how_a_person_does_it_and_shows_no_secret(story):
    story.password_file.parent.mkdir(parents=True)
    story.password_file.write_text("hunter2")
    said = [line for step in STEPS for line in step.by_hand(story)]
    assert len(STEPS) == 7
    assert all(step.by_hand(story) for step in STEPS)
    assert "hunter2" not in " ".join(said)
    assert "BUS_PASSWORD=@$CVM_HOME/bus/accounts/pilot.password" in " ".join(said)


def test_an_agent_is_found_in_its_instance():
    addresses = {"i-1": "10.77.0.2", "i-2": "10.77.0.20"}
    assert instance_of("pilot@grid.test/ip-10-77-0-20-ab12", addresses) == "i-2"
    assert instance_of("pilot@grid.test/ip-10-77-0-2-ab12", addresses) == "i-1"
    assert instance_of("pilot@grid.test/ip-10-77-0-2", addresses) == "i-1"
    assert instance_of("pilot@grid.test/elsewhere", addresses) == "elsewhere"


def test_the_screen_tells_beginnings_and_ends_where_there_is_no_terminal():
    said = StringIO()
    screen = Screen(Console(file=said))
    with screen.step(1, 7, "Serving", ["cvm repo serve"]):
        screen.note("starting")
        screen.rows(("job", "state"), [{"job": "one\x1b[2J", "state": "done"}])
    screen.finish("5 services")
    text = said.getvalue()
    assert "1/7 Serving" in text
    assert "$ cvm repo serve" in text
    assert "5 services" in text
    assert "starting" not in text
    assert "\x1b" not in text

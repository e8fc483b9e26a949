"""The steps of the main job, in order: what each is called, who does it, and how a person does it by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cernvm.box import story as tale
from cernvm.box.result import MOUNT, PICTURE, make_result
from cernvm.box.story import OS, SOFTWARE, Story


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `run` does it and tells the result in a few words; `by_hand` are the commands that do the same."""

    name: str
    run: Callable[[Story], str]
    by_hand: Callable[[Story], list[str]]


STEPS: tuple[Step, ...] = (
    Step(
        "Operating system release",
        tale.publish_operating_system,
        lambda story: [f"cvm repo publish {OS} {_short(story, story.releases / 'os')}"],
    ),
    Step(
        "Software release",
        tale.publish_software,
        lambda story: [f"cvm repo publish {SOFTWARE} {_short(story, story.releases / 'sft')}"],
    ),
    Step(
        "Serving",
        tale.serve,
        lambda story: [
            "cvm repo serve & cvm bus serve & cvm storage serve &",
            f"cvm agent jobs --storage-url {tale.STORAGE_URL} &",
            f"cvm site serve --config {_short(story, tale.site_config_path(story))} &",
        ],
    ),
    Step(
        "Template",
        tale.install_template,
        lambda _story: ["cp examples/evgen.tpl $CVM_HOME/templates/ && cvm context ls"],
    ),
    Step(
        "Instances",
        tale.start_instances,
        lambda story: [
            f"cvm run {_joined(story, tale.run_words(story, story.options.instances))}",
            "cvm -H ls",
        ],
    ),
    Step(
        "Jobs",
        tale.run_jobs,
        lambda story: [f"cvm job submit {_joined(story, tale.submit_words(story))}", "cvm job ls"],
    ),
    Step(
        "Result",
        make_result,
        lambda story: [
            "cvm storage get jobs/…",
            f"cvm mount {SOFTWARE} {_short(story, story.home.run / MOUNT)}",
            f"{_short(story, story.home.run / MOUNT)}/bin/plot --output {PICTURE} *.root",
        ],
    ),
)


def _joined(story: Story, words: list[str]) -> str:
    return _short(story, " ".join(words))


def _short(story: Story, text: object) -> str:
    return str(text).replace(str(story.home.path), "$CVM_HOME")

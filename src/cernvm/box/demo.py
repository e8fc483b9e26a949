"""The main job on this machine, from release to plot: `run_demo` tells the story, and ends all that it started.

Source: docs/tutorials/demo.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from cernvm.box.commands import Commands, ErrorKinds
from cernvm.box.preflight import (
    check_containers,
    check_device,
    check_programs,
    check_space,
)
from cernvm.box.release import operating_system, software
from cernvm.box.release.inputs import is_complete
from cernvm.box.report import Report, StepTaken, write_report
from cernvm.box.screen import Screen
from cernvm.box.steps import STEPS
from cernvm.box.story import Options, Story, job_rows
from cernvm.box.sweep import REGION, sweep
from cernvm.core import linux
from cernvm.core.errors import CvmError
from cernvm.core.home import Home, ensure_folder
from cernvm.core.log import fields

log = logging.getLogger(__name__)


def run_demo(
    home: Home,
    options: Options,
    *,
    error_kinds: ErrorKinds,
    screen: Screen,
    before_end: Callable[[], None] = lambda: None,
) -> Report:
    """Run every step and write the report; `before_end` is called while all still runs.

    Errors: of the preflight, before anything is started, and of the step that failed. However it ends, no process and
    no mount is left. Concurrency: the main thread of a process with no other, holding `preflight.only_one`.
    """
    prepare(home)
    story = Story(home, options, Commands(home, error_kinds, REGION), screen)
    try:
        report = _tell(story)
        before_end()
    finally:
        end(story)
    return report


def prepare(home: Home) -> None:
    """Check what the machine must have, sweep what a killed demo left, and leave the host's mounts alone."""
    check_device()
    building = not all(
        is_complete(home.path / "releases" / name, layers())
        for name, layers in (("os", operating_system.layers), ("sft", software.layers))
    )
    check_programs(building=building)
    check_space(home, building=building)
    check_containers(home)
    for what in sweep(home):
        log.info("demo.swept", extra=fields(what=what))
    # whatever is mounted from here on ends with this process and its children
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)


def end(story: Story) -> None:
    """Terminate the instances while there is a site to do it, then stop all services."""
    try:
        if story.instances and story.commands.is_running("site"):
            story.commands.json("terminate", *story.instances, "--wait")
    except CvmError as error:
        # they end with their site in any case
        log.warning("demo.instances_not_terminated", extra=fields(error=str(error)))
    finally:
        story.commands.stop_all()


def _tell(story: Story) -> Report:
    taken: list[StepTaken] = []
    began = time.monotonic()
    for number, step in enumerate(STEPS, 1):
        started = time.monotonic()
        try:
            with story.screen.step(number, len(STEPS), step.name, step.by_hand(story)):
                result = step.run(story)
        except BaseException as error:
            story.screen.fail()
            if isinstance(error, CvmError):
                _keep_consoles(story)
            raise
        story.screen.finish(result)
        seconds = time.monotonic() - started
        commands = "\n".join(step.by_hand(story))
        taken.append(StepTaken(step.name, commands, started - began, seconds, result))
    report = Report(
        jobs=job_rows(story),
        outputs=story.outputs,
        plots=story.plots,
        steps=taken,
        revisions=list(story.revisions.values()),
    )
    write_report(report, story.options.report)
    return report


def _keep_consoles(story: Story) -> None:
    """Write down what the instances said, which goes with them, for whoever asks why a step failed."""
    for instance in story.instances:
        path = ensure_folder(story.home.log) / f"console-{instance}.log"
        try:
            path.write_text(story.commands.run("console", instance))
        except CvmError as error:
            log.info("demo.no_console", extra=fields(instance=instance, error=str(error)))
        else:
            story.screen.line(f"    what {instance} said is in {path}")

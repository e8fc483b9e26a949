import subprocess
import sys

import pytest

from cernvm.pilot.job import Job, JobState
from cernvm.pilot.queue import DatabaseQueue

CLAIMER = """
import sys
from pathlib import Path
from cernvm.pilot.queue import DatabaseQueue
queue = DatabaseQueue.in_folder(Path(sys.argv[1]))
print("ready", flush=True)
while (job := queue.claim(sys.argv[2], lease_s=60)) is not None:
    print(job.id, flush=True)
"""


def claimer(folder, name):
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMER, str(folder), name], stdout=subprocess.PIPE, text=True
    )


def test_several_processes_never_get_the_same_job(tmp_path):
    queue = DatabaseQueue.in_folder(tmp_path)
    queue.submit([Job(str(number), "", ("true",)) for number in range(60)])

    pilots = [claimer(tmp_path, f"p{number}") for number in range(3)]
    got = [line for pilot in pilots for line in pilot.communicate(timeout=60)[0].split()[1:]]

    assert sorted(got, key=int) == [str(number) for number in range(60)]
    queue.close()


@pytest.mark.soak
def test_a_killed_claimer_leaves_each_job_whole(tmp_path, count, seeded):
    queue = DatabaseQueue.in_folder(tmp_path)
    turns = count(50)
    queue.submit([Job(str(number), "", ("true",)) for number in range(turns * 20)])
    told = []
    for turn in range(turns):
        pilot = claimer(tmp_path, f"p{turn}")
        assert pilot.stdout.readline() == "ready\n"
        told += [pilot.stdout.readline().strip() for _ in range(seeded.randrange(10))]
        pilot.kill()
        pilot.communicate()

    leased = queue.jobs(states=[JobState.LEASED])
    assert set(told) <= {job.id for job in leased}
    assert all(job.lease and job.fence == 1 for job in leased)
    assert len(queue.jobs()) == turns * 20
    queue.close()

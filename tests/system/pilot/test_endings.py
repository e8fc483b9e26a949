"""How single jobs end, on one site where nothing is killed."""

import json
from pathlib import Path


def test_a_failed_command_is_reported_with_its_last_words(calm_site):
    (job_id,) = calm_site.submit("echo so far so good; echo oops >&2; exit 3")

    job = calm_site.wait_for_end(job_id)

    assert (job["state"], job["exit_code"], job["attempt"]) == ("failed", 3, 1)
    assert "oops" in job["tail"]
    assert "so far so good" in calm_site.cvm("job", "show", job_id[:8])
    assert calm_site.cvm("job", "wait", job_id, check=False).returncode != 0


def test_a_job_that_leaves_no_output_is_not_done(calm_site):
    job = calm_site.wait_for_end(*calm_site.submit("true"))

    assert job["state"] == "failed"
    assert "left no" in job["reason"]


def test_a_job_that_leaves_a_link_for_an_output_is_not_done(calm_site):
    (job_id,) = calm_site.submit("ln -s /etc/passwd {id}_0.txt")

    assert calm_site.wait_for_end(job_id)["state"] == "failed"
    assert json.loads(calm_site.cvm("storage", "ls", f"jobs/{job_id}", "--json")) == []


def test_a_wall_limit_is_kept(calm_site, processes):
    submitted = calm_site.cvm("job", "submit", "--wall-limit", "0.5", "--", "sleep", "603")

    assert "wall limit" in calm_site.wait_for_end(submitted.strip())["reason"]
    assert not processes("sleep 603")


def test_a_command_that_was_killed_is_tried_again(calm_site, tmp_path):
    # SIGBUS is what programs get whose repository's mount has died
    script = f"mkdir {tmp_path}/first && kill -9 $$; mkdir {tmp_path}/later && kill -BUS $$; echo > {{id}}_0.txt"

    job = calm_site.wait_for_end(*calm_site.submit(script))

    assert (job["state"], job["attempt"]) == ("done", 3)


def test_a_job_whose_holder_was_killed_ends_and_is_tried_again(calm_site, tmp_path, processes):
    script = f"mkdir {tmp_path}/second 2>/dev/null && kill -9 $PPID && exec sleep 618; echo > {{id}}_0.txt"

    job = calm_site.wait_for_end(*calm_site.submit(script))

    assert (job["state"], job["attempt"]) == ("done", 2)
    assert not processes("sleep 618")


def test_a_cancelled_job_is_stopped_where_it_runs(calm_site, processes):
    (job_id,) = calm_site.submit("sleep 604", outputs=())
    calm_site.wait_for(lambda: processes("sleep 604"))

    assert "cancelled" in calm_site.cvm("job", "cancel", job_id)

    calm_site.wait_for(lambda: not processes("sleep 604"), 10)
    assert calm_site.wait_for_end(*calm_site.submit("echo > {id}_0.txt"))["state"] == "done"


def test_a_job_sees_little_of_the_pilots_environment(calm_site, tmp_path):
    submitted = calm_site.cvm(
        *("job", "submit", "--env", "OWN={seed}", "--output", "env.txt"),
        *("--", "sh", "-c", "env > env.txt"),
    )
    job = calm_site.wait_for_end(submitted.strip())

    got = tmp_path / "env"
    calm_site.cvm("storage", "get", job["outputs"][0]["path"], "--output", str(got))
    text = got.read_text()
    assert "OWN=1" in text
    assert f"CVM_JOB_ID={job['id']}" in text
    assert "SECRET" not in text


def test_no_secret_is_in_any_log_or_command_line(calm_site):
    calm_site.wait_for_end(*calm_site.submit("echo > {id}_0.txt"))

    secrets = [path.read_text() for path in (calm_site.home.bus / "accounts").iterdir()]
    secrets.append((calm_site.home.path / "storage.key").read_text())
    shown = "".join(path.read_text() for path in calm_site.tmp_path.glob("*.log"))
    shown += "".join(path.read_text() for path in calm_site.home.bus.glob("*.log"))
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            shown += path.read_bytes().decode(errors="replace")
        except OSError:
            continue
    assert len(secrets) == 3
    assert not [secret for secret in secrets if secret in shown]

"""The served API by the AWS SDK."""

import http.client
import os
import signal
import socket
import subprocess
import time
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from cernvm.core.process import read_record
from system.site.served import (
    CVM,
    MEMORY,
    instances,
    served_site,
    start_site,
    states,
    stop,
    wait_for,
)


def image(ec2):
    return ec2.describe_images()["Images"][0]["ImageId"]


def run(ec2, **options):
    answer = ec2.run_instances(**{"ImageId": image(ec2), "MinCount": 1, "MaxCount": 1, **options})
    return [each["InstanceId"] for each in answer["Instances"]]


def code(caught):
    return caught.value.response["Error"]["Code"]


def test_an_instance_goes_from_pending_to_terminated(ec2):
    answer = ec2.run_instances(ImageId=image(ec2), MinCount=1, MaxCount=1)
    (started,) = answer["Instances"]
    assert started["State"]["Name"] == "pending"

    instance_id = started["InstanceId"]
    wait_for(lambda: states(ec2)[instance_id] == "running")
    (change,) = ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == (
        "running",
        "shutting-down",
    )
    wait_for(lambda: states(ec2)[instance_id] == "terminated")
    (gone,) = instances(ec2, InstanceIds=[instance_id])
    assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_several_share_a_reservation_and_have_addresses_of_their_own(ec2):
    answer = ec2.run_instances(ImageId=image(ec2), MinCount=2, MaxCount=3)

    assert [each["AmiLaunchIndex"] for each in answer["Instances"]] == [0, 1, 2]
    assert len({each["PrivateIpAddress"] for each in answer["Instances"]}) == 3


def test_the_same_client_token_starts_nothing_twice(ec2):
    first = run(ec2, ClientToken="once", MaxCount=2)

    assert run(ec2, ClientToken="once", MaxCount=2) == first
    with pytest.raises(ClientError) as caught:
        run(ec2, ClientToken="once", MaxCount=1)
    assert code(caught) == "IdempotentParameterMismatch"


def test_the_quota_gives_fewer_or_none(ec2):
    assert len(run(ec2, MaxCount=6)) >= 1
    wait_for(lambda: "pending" not in states(ec2).values())
    with pytest.raises(ClientError) as caught:
        run(ec2, MinCount=8, MaxCount=8)
    assert code(caught) == "InstanceLimitExceeded"


def test_a_console_is_read_also_after_the_end(ec2):
    (instance_id,) = run(ec2)
    wait_for(lambda: states(ec2)[instance_id] == "running")
    live = ec2.get_console_output(InstanceId=instance_id)["Output"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    wait_for(lambda: states(ec2)[instance_id] == "terminated")

    assert "cernvm-init" in live
    assert ec2.get_console_output(InstanceId=instance_id)["Output"] == live


def test_filters_choose_instances(ec2):
    one, two = run(ec2, InstanceType="m1.tiny"), run(ec2, InstanceType="m1.huge")

    chosen = instances(ec2, Filters=[{"Name": "instance-type", "Values": ["*.tiny"]}])

    assert [each["InstanceId"] for each in chosen] == one
    assert set(one + two) <= set(states(ec2))


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda ec2: ec2.describe_instances(InstanceIds=["i-00000000"]), "InvalidInstanceID.NotFound"),
        (lambda ec2: ec2.terminate_instances(InstanceIds=["i-00000000"]), "InvalidInstanceID.NotFound"),
        (lambda ec2: ec2.get_console_output(InstanceId="i-00000000"), "InvalidInstanceID.NotFound"),
        (lambda ec2: ec2.describe_images(ImageIds=["ami-00000000"]), "InvalidAMIID.NotFound"),
        (lambda ec2: run(ec2, ImageId="ami-00000000"), "InvalidAMIID.NotFound"),
        (lambda ec2: ec2.describe_volumes(), "InvalidAction"),
        (lambda ec2: run(ec2, Monitoring={"Enabled": True}), "InvalidParameterValue"),
        (lambda ec2: run(ec2, UserData="x" * 70_000), "InvalidParameterValue"),
        (lambda ec2: run(ec2, UserData="x" * 300_000), "InvalidParameterValue"),
    ],
)  # fmt: skip
def test_a_refusal_has_the_code_that_ec2_gives(ec2, call, wanted):
    with pytest.raises(ClientError) as caught:
        call(ec2)

    assert code(caught) == wanted


def test_terminating_an_unknown_one_ends_none(ec2):
    (known,) = run(ec2)

    with pytest.raises(ClientError):
        ec2.terminate_instances(InstanceIds=[known, "i-00000000"])

    assert states(ec2)[known] in ("pending", "running")


def test_the_region_names_itself(ec2, site):
    (region,) = ec2.describe_regions()["Regions"]

    assert (region["RegionName"], region["Endpoint"]) == ("local", site.url)


def test_other_paths_and_methods_do_not_exist(site):
    host = urlsplit(site.url)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=5)
    found = []
    for method, path in (("GET", "/etc/passwd"), ("DELETE", "/"), ("GET", "/")):
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
    connection.close()

    assert found == [404, 405, 401]


def test_a_restart_after_sigkill_keeps_ids_and_addresses(home):
    site = start_site(home)
    ec2 = site.client()
    started = run(ec2, MaxCount=2)
    wait_for(lambda: set(states(ec2).values()) == {"running"})
    before = {each["InstanceId"]: each["PrivateIpAddress"] for each in instances(ec2)}
    gone = run(ec2)
    ec2.terminate_instances(InstanceIds=gone)
    site.kill()
    site.process.stdout.close()
    ec2.close()

    with served_site(home) as again:
        ec2 = again.client()
        wait_for(lambda: [states(ec2)[name] for name in started] == ["running"] * 2)
        wait_for(lambda: states(ec2)[gone[0]] == "terminated")
        after = {each["InstanceId"]: each.get("PrivateIpAddress") for each in instances(ec2)}
        ec2.close()
    assert {name: after[name] for name in started} == before


def test_killing_it_at_any_moment_loses_no_acknowledged_instance(home, count, seeded):
    acknowledged = set()
    for _ in range(count(20)):
        site = start_site(home, MEMORY.replace("instances_max = 8", "instances_max = 200"))
        ec2 = site.client()
        for _ in range(seeded.randrange(1, 6)):
            acknowledged |= set(run(ec2))
        site.kill()
        site.process.stdout.close()
        ec2.close()

    with served_site(home) as again:
        ec2 = again.client()
        assert acknowledged <= set(states(ec2))
        ec2.close()


def test_it_records_itself_and_ends_soon_when_told(home):
    with served_site(home) as site:
        record = read_record(home.run / "site.json")
        assert record.is_alive
        assert f"http://{record.address}" == site.url
        assert (home.clouds / "local.conf").stat().st_mode & 0o777 == 0o600
        assert (home.site / "site.db").stat().st_mode & 0o777 == 0o600
        site.process.send_signal(signal.SIGINT)
        site.process.wait(5)

    assert site.process.returncode == 0
    assert read_record(home.run / "site.json") is None


def test_a_second_site_of_one_home_is_refused(home, cvm):
    with served_site(home):
        second = cvm("site", "serve", check=False)

    assert second.returncode == 40
    assert "another process is the site" in second.stderr


def test_a_taken_port_is_named(home, cvm):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (home.path).mkdir()
        (home.path / "site.toml").write_text(MEMORY)

        failed = cvm("site", "serve", "--port", taken.getsockname()[1], check=False)

    assert failed.returncode == 42
    assert "another program listens on 127.0.0.1" in failed.stderr


def test_a_damaged_database_is_named(home, cvm):
    home.site.mkdir(parents=True)
    (home.site / "site.db").write_bytes(b"no database" * 100)
    (home.path / "site.toml").write_text(MEMORY)

    failed = cvm("site", "serve", check=False)

    assert failed.returncode == 10
    assert "site.db" in failed.stderr


def test_without_the_right_to_mount_a_container_site_says_so(home, tmp_path):
    config = tmp_path / "site.toml"
    config.write_text('hypervisor = "container"\n')
    if os.geteuid() != 0:
        pytest.skip("needs root to give rights up")

    failed = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", CVM, "site", "serve",
         "--config", str(config)],
        env={**os.environ, "CVM_HOME": str(home.path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )  # fmt: skip

    assert failed.returncode == 15
    assert "right to mount" in failed.stderr


def test_status_tells_what_runs(home, cvm):
    assert "stopped" in cvm("-H", "site", "status").stdout
    with served_site(home) as site:
        ec2 = site.client()
        run(ec2, MaxCount=2)
        wait_for(lambda: set(states(ec2).values()) == {"running"})
        ec2.close()
        shown = cvm("site", "status").stdout
    assert "2 running" in shown
    assert site.url in shown


def test_a_stopped_process_of_another_record_is_not_shown(home, cvm):
    site = start_site(home)
    site.kill()
    stop(site.process)

    assert "stopped" in cvm("site", "status").stdout


def test_an_answer_does_not_wait_for_acknowledgements(site):
    host = urlsplit(site.url)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=5)
    took_s = []
    for _ in range(21):
        began = time.monotonic()
        connection.request("GET", "/")
        connection.getresponse().read()
        took_s.append(time.monotonic() - began)
    connection.close()

    assert sorted(took_s)[10] < 0.035

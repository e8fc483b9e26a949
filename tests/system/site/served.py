"""A site cloud as a real process, for the tests of several rooms."""

import configparser
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config

CVM = str(Path(__file__).parent.parent.parent.parent / ".venv/bin/cvm")

MEMORY = """
hypervisor = "memory"
instances_max = 8
[[images]]
name = "cernvm-devel"
repository = "os.cernvm.test"
"""


class Site:
    """A running `cvm site serve`."""

    def __init__(self, home, process, url):
        self.home, self.process, self.url = home, process, url

    @property
    def region(self):
        parser = configparser.ConfigParser()
        parser.read(self.home.clouds / "local.conf")
        return parser

    def client(self, *, secret=None, key=None, region="local"):
        """A boto3 client, with the site's own credentials unless told otherwise."""
        credentials = self.region["Credentials"]
        return boto3.session.Session().client(
            "ec2",
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id=key or credentials["access_key_id"],
            aws_secret_access_key=secret or credentials["secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=20),
        )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(5)


def start_site(home, config=MEMORY, *arguments):
    home.path.mkdir(parents=True, exist_ok=True)
    (home.path / "site.toml").write_text(config)
    with (home.path / "site.log").open("ab") as log:
        process = subprocess.Popen(
            [CVM, "-v", "site", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "CVM_HOME": str(home.path)},
        )
    line = process.stdout.readline().decode()
    if not line.startswith("listening on "):
        stop(process)
        raise AssertionError(f"{line}{(home.path / 'site.log').read_text()}")
    return Site(home, process, line.split()[-1])


def stop(process):
    process.terminate()
    try:
        process.wait(8)
    finally:
        process.kill()
        process.wait(5)
        process.stdout.close()


@contextmanager
def served_site(home, config=MEMORY):
    site = start_site(home, config)
    try:
        yield site
    finally:
        stop(site.process)


def wait_for(condition, *, seconds=10):
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not become true in time")


def instances(client, **filters):
    """All instances that the API shows."""
    pages = client.describe_instances(**filters)["Reservations"]
    return [instance for reservation in pages for instance in reservation["Instances"]]


def states(client):
    return {each["InstanceId"]: each["State"]["Name"] for each in instances(client)}

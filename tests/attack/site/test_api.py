"""One test per attack on the site's API."""

import http.client
import socket
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from cernvm.site.state import open_state
from system.site.served import instances, states

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def refused(call, *codes):
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] in codes


def signed(site, body, *, at=None, method="POST", monkeypatch=None):
    """Headers of a request that the site's owner signed."""
    credentials = site.region["Credentials"]
    request = AWSRequest(method, f"{site.url}/", headers=FORM, data=body)
    keys = Credentials(credentials["access_key_id"], credentials["secret_access_key"])
    if at is not None:
        moment = at.replace(tzinfo=None)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    SigV4Auth(keys, "ec2", "local").add_auth(request)
    return dict(request.headers.items())


def send(site, headers, body, *, method="POST", path="/"):
    host = urlsplit(site.url)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=20)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


RUN = b"Action=RunInstances&Version=2016-11-15&ImageId=%s&MinCount=1&MaxCount=1"


def run_form(site):
    client = site.client()
    image = client.describe_images()["Images"][0]["ImageId"]
    client.close()
    return RUN % image.encode()


def test_a_wrong_secret_is_refused(site):
    client = site.client(secret="guessed")

    refused(client.describe_instances, "SignatureDoesNotMatch")


def test_an_unknown_key_is_refused(site):
    refused(site.client(key="CVMGUESSED").describe_instances, "AuthFailure")


def test_a_signature_for_another_region_is_refused(site):
    refused(site.client(region="elsewhere").describe_instances, "SignatureDoesNotMatch")


def test_an_unsigned_request_is_refused_before_it_is_read(site):
    status, text = send(site, FORM, b"Action=NoSuchThing")

    assert status == 401
    assert "NoSuchThing" not in text


def test_an_altered_body_is_refused(site):
    body = run_form(site)
    headers = signed(site, body)

    assert send(site, headers, body.replace(b"MaxCount=1", b"MaxCount=9"))[0] == 403


def test_parameters_smuggled_behind_the_question_mark_are_refused(site):
    body = b"Action=DescribeRegions"

    assert send(site, signed(site, body), body, path="/?Action=RunInstances")[0] == 403


def test_another_content_type_is_refused(site):
    body = b"Action=DescribeRegions"
    headers = {**signed(site, body), "Content-Type": "multipart/form-data; boundary=x"}

    assert send(site, headers, body)[0] in (400, 403)


@pytest.mark.parametrize("minutes", [-16, 16, -60 * 24 * 365])
def test_a_stale_or_future_request_is_refused(site, monkeypatch, minutes):
    body = b"Action=DescribeRegions"
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    headers = signed(site, body, at=at, monkeypatch=monkeypatch)

    status, text = send(site, headers, body)

    assert (status, "RequestExpired" in text) == (400, True)


def test_a_captured_request_starts_nothing_a_second_time(site):
    body = run_form(site)
    headers = signed(site, body)
    before = len(_mine(site))

    answers = [send(site, headers, body)[0] for _ in range(3)]

    assert answers == [200] * 3
    assert len(_mine(site)) == before + 1


def test_another_owners_instance_does_not_exist(site):
    state = open_state(site.home.site)
    key = state.ensure_owner("mallory")
    state.close()
    mine, theirs = site.client(), site.client(key=key.access_key_id, secret=key.secret_access_key)
    image = mine.describe_images()["Images"][0]["ImageId"]
    (started,) = mine.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]
    name = started["InstanceId"]

    for call in (
        lambda: theirs.describe_instances(InstanceIds=[name]),
        lambda: theirs.terminate_instances(InstanceIds=[name]),
        lambda: theirs.get_console_output(InstanceId=name),
    ):
        refused(call, "InvalidInstanceID.NotFound")
    assert instances(theirs) == []
    assert states(mine)[name] in ("pending", "running")


def test_a_guessed_client_token_shows_nobody_elses_instances(site):
    state = open_state(site.home.site)
    key = state.ensure_owner("eve")
    state.close()
    mine, theirs = site.client(), site.client(key=key.access_key_id, secret=key.secret_access_key)
    image = mine.describe_images()["Images"][0]["ImageId"]
    wish = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "ClientToken": "guessable"}

    one = mine.run_instances(**wish)["Instances"][0]["InstanceId"]
    two = theirs.run_instances(**wish)["Instances"][0]["InstanceId"]

    assert one != two


def test_a_huge_body_is_refused_without_being_kept(site):
    body = b"Action=DescribeRegions&x=" + b"a" * 2_000_000
    host = urlsplit(site.url)
    with socket.create_connection((host.hostname, host.port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        try:
            connection.sendall(body)
        except (ConnectionResetError, BrokenPipeError):
            pass
        answer = connection.recv(4096)

    assert b"400" in answer.split(b"\r\n")[0]


def test_a_body_that_never_comes_gets_an_answer(site, monkeypatch):
    host = urlsplit(site.url)
    began = time.monotonic()
    with socket.create_connection((host.hostname, host.port), timeout=15) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nAction")
        answer = connection.recv(4096)

    assert b"503" in answer.split(b"\r\n")[0]
    assert time.monotonic() - began < 13


def test_secrets_do_not_reach_the_log(site):
    client = site.client()
    image = client.describe_images()["Images"][0]["ImageId"]
    client.run_instances(ImageId=image, MinCount=1, MaxCount=1, UserData="password = hunter2")
    site.client(secret="guessed-secret")
    log = (site.home.path / "site.log").read_text()

    assert "hunter2" not in log
    assert site.region["Credentials"]["secret_access_key"] not in log
    assert client.get_paginator is not None


def test_the_site_still_answers_after_all_this(site):
    garbage = [b"GET", b"\x00" * 1000, b"POST / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000]
    host = urlsplit(site.url)
    for data in garbage:
        with socket.create_connection((host.hostname, host.port), timeout=5) as connection:
            try:
                connection.sendall(data)
            except OSError:
                pass

    assert site.client().describe_regions()["Regions"]
    assert site.process.poll() is None


def _mine(site):
    client = site.client()
    found = states(client)
    client.close()
    return found

"""Requests of people without a key, with another's key, or with a key and no good intentions."""

import contextlib
import json
import socket
import threading
import time

import pytest

from cernvm.core.clock import Deadline
from cernvm.core.errors import DeniedError, LeaseLostError
from cernvm.fs.format.compress import deflate
from cernvm.fs.format.objects import ObjectKind, object_path
from cernvm.fs.gateway import server
from cernvm.fs.gateway.client import GatewayClient
from cernvm.fs.gateway.lease import LeasePath, PathBusyError
from cernvm.fs.gateway.object_pack import SentObject, format_pack_header, header_digest
from cernvm.fs.gateway.signature import Secret

NAME = "t.cernvm.test"
LEASE = json.dumps({"path": f"{NAME}/one", "api_version": "3"}).encode()


def payload(token, header, *, digest=None, size=None):
    return json.dumps(
        {"session_token": token, "payload_digest": digest or header_digest(header),
         "header_size": str(len(header) if size is None else size), "api_version": "2"}
    ).encode()  # fmt: skip


@pytest.mark.parametrize(
    "authorization",
    ["", "key", "nobody YQ==", "../../etc/passwd YQ==", Secret("nobody", "x" * 8).authorization(LEASE)],
)  # fmt: skip
def test_without_a_key_there_is_no_lease(site, raw, authorization):
    answer = raw.ask("POST", "/leases", LEASE, Authorization=authorization)

    assert answer["reason"] == "invalid_hmac"
    assert site.gateway.book.leases() == []


def test_a_signature_of_another_request_is_worth_nothing(site, raw, holder):
    _, key, token = holder
    signature = key.secret.authorization(LEASE)

    other = json.dumps({"path": f"{NAME}/two", "api_version": "3"}).encode()
    assert raw.ask("POST", "/leases", other, Authorization=signature)["reason"] == "invalid_hmac"
    for method in ("DELETE", "PATCH", "POST"):
        answer = raw.ask(method, f"/leases/{token}", LEASE, Authorization=signature)
        assert answer["reason"] == "invalid_hmac"
    assert len(site.gateway.book.leases()) == 1


def test_a_repeated_request_for_a_lease_gives_nothing_away(site, raw, holder):
    """Who records a request may send it again; the lease that they get then is of no use without the key."""
    _, key, token = holder
    signature = key.secret.authorization(LEASE)

    assert raw.ask("POST", "/leases", LEASE, Authorization=signature)["status"] == "path_busy"
    site.gateway.book.cancel(token)
    again = raw.ask("POST", "/leases", LEASE, Authorization=signature)["session_token"]
    for method in ("DELETE", "PATCH", "POST"):
        answer = raw.ask(method, f"/leases/{again}", b"{}", Authorization=signature)
        assert answer["reason"] == "invalid_hmac"


def test_what_was_done_under_a_lease_cannot_be_done_again(site, raw, holder):
    client, key, token = holder
    client.cancel(token)

    answer = raw.ask(
        "DELETE", f"/leases/{token}", Authorization=key.secret.authorization(token.encode())
    )
    assert answer["kind"] == "LeaseLostError"


def test_anothers_token_is_of_no_use(site, holder):
    _, _, token = holder
    stranger, _ = site.key()

    with pytest.raises(LeaseLostError):
        stranger.cancel(token)
    with pytest.raises(LeaseLostError):
        stranger.refresh(token)
    with pytest.raises(LeaseLostError):
        stranger.send(token, [])
    assert len(site.gateway.book.leases()) == 1


def test_listings_tell_no_token(site, raw, holder):
    token = holder[2]
    shown = json.dumps([raw.ask("GET", "/leases"), raw.ask("GET", f"/leases/{token}")])

    assert f"{NAME}/one" in shown
    assert token not in shown


def test_only_an_administrator_takes_leases_away(site, raw, holder):
    _, key, _ = holder
    target = f"/leases-by-path/{NAME}/one"
    address = ("/api/v1" + target).encode()
    refused = raw.ask("DELETE", target, Authorization=key.secret.authorization(address))
    assert "no_admin_key" in refused["reason"]

    _, elsewhere = site.key(b"/two", admin=True)
    refused = raw.ask("DELETE", target, Authorization=elsewhere.secret.authorization(address))
    assert refused["kind"] == "DeniedError"

    _, admin = site.key(admin=True)
    done = raw.ask("DELETE", target, Authorization=admin.secret.authorization(address))
    assert done["cancelled"] == [f"{NAME}/one"]
    body = b'{"enable": false}'
    closed = raw.ask("POST", f"/repos/{NAME}", body, Authorization=admin.secret.authorization(body))
    assert closed["status"] == "ok"
    assert raw.ask("GET", f"/repos/{NAME}")["data"]["enabled"] is False


def test_an_object_under_a_false_name_is_not_stored(site, holder):
    client, _, token = holder
    digest = site.repository.algorithm.digest(b"good")

    with pytest.raises(Exception, match="damaged or forged"):
        client.send(token, [(SentObject(digest, ObjectKind.PLAIN, 3), b"bad")])
    assert not site.store.has(object_path(digest, ObjectKind.PLAIN))


def send(raw, key, token, header, rest=b"", **how):
    body = payload(token, header, **how)
    return raw.ask(
        "POST", "/payloads", body + header + rest,
        Authorization=key.secret.authorization(body), Message_Size=str(len(body)),
    )  # fmt: skip


def test_a_pack_that_is_not_what_was_signed_is_refused(site, raw, holder):
    _, key, token = holder
    stored = deflate(b"x")
    digest = site.repository.algorithm.digest(stored)
    header = format_pack_header([SentObject(digest, ObjectKind.PLAIN, len(stored))])

    answer = send(raw, key, token, header, stored, digest="0" * 40)
    assert answer["kind"] == "DigestMismatchError"
    assert send(raw, key, token, header, stored)["stored"] == 1


@pytest.mark.parametrize("size", [-1, 0, 1 << 40])
def test_a_pack_with_an_absurd_header_is_refused(site, raw, holder, size):
    _, key, token = holder

    assert send(raw, key, token, b"V2\n", size=size)["kind"] == "FormatError"


def test_an_object_that_claims_a_terabyte_costs_nothing(site, raw, holder):
    _, key, token = holder
    digest = site.repository.algorithm.digest(b"")
    header = format_pack_header([SentObject(digest, ObjectKind.PLAIN, 1 << 40)])

    assert "larger than a gateway takes" in send(raw, key, token, header)["reason"]


def test_a_pack_that_ends_early_is_refused(site, raw, holder):
    _, key, token = holder
    digest = site.repository.algorithm.digest(b"")
    header = format_pack_header([SentObject(digest, ObjectKind.PLAIN, 1 << 20)])

    assert "ends in the middle" in send(raw, key, token, header, b"short")["reason"]


@pytest.mark.parametrize("size", ["", "x", "-1", "99999999999", "1000000"])
def test_a_message_that_is_longer_than_its_body_is_refused(site, raw, size):
    answer = raw.ask("POST", "/payloads", b"{}", Message_Size=size)

    assert answer["status"] == "error"


def test_a_long_message_is_not_read(site, raw):
    answer = raw.ask("POST", "/leases", b" " * (1 << 20))

    assert "longer than" in answer["reason"]


@pytest.mark.parametrize("path", ["/nothing", "/leases/short", "/repos/../x", "/leases-by-path/"])
def test_an_unknown_address_is_refused(raw, path):
    assert raw.ask("GET", path)["status"] == "error"


def test_a_path_outside_the_repository_is_refused(site, raw):
    _, key = site.key()
    for path in (f"{NAME}/../other", f"{NAME}/a/./b", "../x/", "nobody.test/", f"{NAME}\0/x"):
        body = json.dumps({"path": path, "api_version": "3"}).encode()
        answer = raw.ask("POST", "/leases", body, Authorization=key.secret.authorization(body))
        assert answer["status"] == "error"
    assert site.gateway.book.leases() == []


def test_who_sends_a_head_drop_by_drop_is_hung_up_on(site, raw, monkeypatch):
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 0.5)
    begin = time.monotonic()
    with socket.create_connection((raw.parts.hostname, raw.parts.port), timeout=10) as line:
        line.sendall(b"GET /api/v1/repos HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - begin < 8:
                line.sendall(b"x")
                time.sleep(0.1)

    assert time.monotonic() - begin < 5


def test_silent_clients_do_not_keep_others_out(site, raw):
    lines = [
        socket.create_connection((raw.parts.hostname, raw.parts.port), timeout=10)
        for _ in range(50)
    ]
    try:
        assert raw.ask("GET", "/repos")["status"] == "ok"
    finally:
        for line in lines:
            line.close()


def test_a_key_that_was_taken_away_opens_nothing(site, holder):
    client, key, token = holder
    site.gateway.keys.remove(key.id)

    with pytest.raises(DeniedError):
        client.refresh(token)


def test_many_who_want_the_same_path_get_one_lease(site):
    clients = [site.key()[0] for _ in range(8)]
    given = []

    def want(client):
        try:
            given.append(client.lease(LeasePath(NAME, b"/hot"), hostname="", ttl_s=60))
        except PathBusyError:
            pass

    threads = [threading.Thread(target=want, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    deadline = Deadline.after(20)
    for thread in threads:
        thread.join(deadline.remaining_s)

    assert len(given) == 1


def test_a_commit_whose_body_was_exchanged_on_the_way_is_refused(site, raw, holder):
    """The protocol's own signature covers the token only; the proof covers everything."""
    _, key, token = holder
    address, body = f"/api/v1/leases/{token}", b'{"old_root_hash": "x"}'
    signed = {
        "Authorization": key.secret.authorization(token.encode()),
        "Cvm_Proof": key.secret.proof("POST", address, body, int(time.time())),
    }

    assert raw.ask("POST", f"/leases/{token}", body, **signed)["kind"] == "FormatError"
    for method, exchanged in (("POST", b'{"old_root_hash": "y"}'), ("DELETE", b"")):
        answer = raw.ask(method, f"/leases/{token}", exchanged, **signed)
        assert answer["reason"] == "invalid_proof"


@pytest.mark.parametrize("proof", ["", "x", "1 2", "9" * 40, "-5 ab"])
def test_a_proof_that_is_none_is_refused(site, raw, holder, proof):
    _, key, token = holder
    signature = key.secret.authorization(token.encode())
    answer = raw.ask("PATCH", f"/leases/{token}", Authorization=signature, Cvm_Proof=proof)

    assert answer["reason"] == "invalid_proof"


def test_a_strict_key_needs_a_proof_of_now(site, raw):
    key = site.gateway.keys.add(LeasePath(NAME), is_strict=True)
    signature = key.secret.authorization(LEASE)

    assert raw.ask("POST", "/leases", LEASE, Authorization=signature)["reason"] == "invalid_proof"
    for age_s in (400, -400):
        old = key.secret.proof("POST", "/api/v1/leases", LEASE, int(time.time()) - age_s)
        answer = raw.ask("POST", "/leases", LEASE, Authorization=signature, Cvm_Proof=old)
        assert answer["reason"] == "invalid_proof"
    client = GatewayClient(site.url, key.secret)
    assert client.lease(LeasePath(NAME, b"/one"), hostname="", ttl_s=60)


@pytest.mark.parametrize("target", ["%ff%fe", "a%20b", "%2e%2e", "%00", "%f0%9f%98%80"])
def test_odd_bytes_of_an_address_are_taken_for_what_they_are(site, raw, target):
    _, admin = site.key(admin=True)
    address = f"/leases-by-path/{NAME}/{target}"
    signature = admin.secret.authorization(f"/api/v1{address}".encode())
    answer = raw.ask("DELETE", address, Authorization=signature)

    assert answer["status"] == ("error" if target in ("%2e%2e", "%00") else "ok")

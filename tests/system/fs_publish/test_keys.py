"""Keys of a repository: kept elsewhere, replaced, taken back, and renewed in time."""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from cernvm.core.clock import Deadline, FakeClock
from cernvm.core.errors import (
    DeadlineError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    PrerequisiteError,
    SignatureError,
)
from cernvm.fs.cache import MemoryBreadcrumbs, MemoryCache
from cernvm.fs.edit.underlay import STORE_HOST, StoreExchange
from cernvm.fs.format.objects import ObjectKind, alternative_path
from cernvm.fs.format.signature import create_certificate, create_private_key
from cernvm.fs.format.whitelist import format_fingerprint
from cernvm.fs.publish.creating import create_repository
from cernvm.fs.publish.master import CommandMasterKey, open_master
from cernvm.fs.publish.master_token import parse_token
from cernvm.fs.publish.publishing import publish_tree
from cernvm.fs.publish.repository import new_repository, open_storage
from cernvm.fs.publish.resigning import resign_whitelist
from cernvm.fs.publish.revision import read_manifest
from cernvm.fs.publish.rotating import (
    begin_second_signature,
    list_certificate,
    revoke_certificate,
    rotate_signing_key,
)
from cernvm.fs.publish.settings import Settings
from cernvm.fs.publish.whitelisting import (
    expiry_warning,
    fingerprint_of,
    read_whitelist,
    renew,
)
from cernvm.fs.reader import open_repository
from cernvm.net import Chain, ChainFetcher
from conftest import missing

from .conftest import read_back

SIGNER = """
import sys
from cernvm.fs.format.signature import sign_raw
sys.stdout.buffer.write(sign_raw(open(sys.argv[1], "rb").read(), sys.stdin.buffer.read()))
"""


def with_master(repository, location):
    return dataclasses.replace(repository, settings=Settings(master_key=location))


def in_use(repository):
    return fingerprint_of(repository.keys.certificate.read_bytes(), repository.algorithm)


def test_a_new_signing_key_is_noticed_by_no_client(repository, store, tree):
    publish_tree(repository, store, tree)
    before = in_use(repository)
    seen = []

    def wait(_seconds):
        seen.append(read_back(repository, store)[1].certificate)

    fresh = rotate_signing_key(repository, store, wait=wait)

    manifest = read_back(repository, store)[1]
    assert manifest.certificate != seen[0]
    assert manifest.revision == 1
    assert in_use(repository) == fresh != before
    assert set(read_whitelist(repository, store).fingerprints) == {before, fresh}
    (tree / "more").write_text("more")
    assert publish_tree(repository, store, tree).revision == 2
    read_back(repository, store)


def test_a_client_that_has_it_open_reads_on(repository, store, tree):
    publish_tree(repository, store, tree)
    client = open_repository(
        repository.name,
        fetcher=ChainFetcher(Chain((STORE_HOST,)), StoreExchange(store)),
        cache=MemoryCache(quota_bytes=1 << 26),
        breadcrumbs=MemoryBreadcrumbs(),
        master_keys=[repository.keys.public.read_bytes()],
        deadline=Deadline.after(20),
    )
    told = []

    def look(_seconds):
        client.reload(Deadline.after(20))
        told.append(client.revision_error)

    rotate_signing_key(repository, store, wait=look)
    look(0)
    (tree / "more").write_text("more")
    publish_tree(repository, store, tree)
    look(0)

    assert told == ["", "", ""]
    assert client.revision.number == 2
    client.close()


@pytest.mark.parametrize("step", ["waiting", "between the files"])
def test_a_rotation_that_died_is_finished_when_it_is_repeated(repository, store, tree, step):
    def die(_seconds):
        raise KeyboardInterrupt

    before = in_use(repository)
    with pytest.raises(KeyboardInterrupt):
        rotate_signing_key(repository, store, wait=die)
    publish_tree(repository, store, tree)
    assert in_use(repository) == before
    if step == "between the files":
        rotate_signing_key(repository, store, wait=lambda _: None)
        repository.keys.certificate.rename(repository.keys.next_certificate)
        (tree / "more").write_text("more")
        publish_tree(repository, store, tree)
    else:
        rotate_signing_key(repository, store, wait=lambda _: None)

    assert in_use(repository) != before
    assert not repository.keys.next_certificate.exists()
    read_back(repository, store)


def test_the_old_certificate_is_listed_until_its_grace_is_over(repository, store):
    before = in_use(repository)
    rotate_signing_key(repository, store, wait=lambda _: None, grace_days=5)

    renew(repository, store, clock=FakeClock(datetime.now(UTC) + timedelta(days=4)))
    assert before in read_whitelist(repository, store).fingerprints
    renew(repository, store, clock=FakeClock(datetime.now(UTC) + timedelta(days=6)))

    assert before not in read_whitelist(repository, store).fingerprints


def test_another_publishers_certificate_stays_listed_until_it_is_revoked(
    repository, store, tmp_path, tree
):
    other = create_certificate(create_private_key(), name="other", now=datetime.now(UTC))
    (tmp_path / "other.crt").write_bytes(other)
    fingerprint = list_certificate(repository, store, tmp_path / "other.crt")
    renew(repository, store)
    assert fingerprint in read_whitelist(repository, store).fingerprints

    revoke_certificate(repository, store, format_fingerprint(fingerprint))

    renew(repository, store)
    assert read_whitelist(repository, store).fingerprints == (in_use(repository),)
    with pytest.raises(NotFoundError):
        revoke_certificate(repository, store, format_fingerprint(fingerprint))


def test_the_certificate_in_use_cannot_be_revoked(repository, store):
    with pytest.raises(InvalidInputError, match="in use"):
        revoke_certificate(repository, store, format_fingerprint(in_use(repository)))


def test_a_revocation_is_written_for_blacklists(repository, store, cvm, tmp_path):
    blacklist = tmp_path / "blacklist"
    blacklist.write_text("# ours\n")

    for _ in range(2):
        told = cvm(
            "repo", "keys", "revoke", repository.name, "--below", "7", "--blacklist", blacklist
        )

    assert told.stdout == f"<{repository.name} 7\n"
    assert blacklist.read_text() == f"# ours\n<{repository.name} 7\n"


def test_the_keys_are_shown(repository, cvm):
    rotate_signing_key(repository, open_storage(repository), wait=lambda _: None)

    shown = cvm("repo", "keys", "show", repository.name).stdout.splitlines()

    assert shown[1].split()[1:3] == ["in", "use"]
    assert "listed" in shown[2]


def test_the_master_key_may_be_another_file(repository, store, tmp_path):
    repository.keys.master.rename(tmp_path / "master")
    with pytest.raises(PrerequisiteError):
        renew(repository, store)

    renew(with_master(repository, str(tmp_path / "master")), store)

    read_back(repository, store)


def test_the_master_key_may_be_a_command(repository, store, tmp_path):
    shutil.move(repository.keys.master, tmp_path / "master")
    words = [sys.executable, "-c", SIGNER, str(tmp_path / "master")]

    renew(with_master(repository, f"command:{shlex.join(words)}"), store)

    read_back(repository, store)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("false", DeniedError),
        ("true", DeniedError),
        ("no-such-command-here", PrerequisiteError),
        ("echo not a signature", SignatureError),
    ],
)
def test_a_command_that_does_not_sign_changes_nothing(repository, store, command, error):
    before = store.get(".cvmfswhitelist")

    with pytest.raises(error):
        renew(with_master(repository, f"command:{command}"), store)

    assert store.get(".cvmfswhitelist") == before


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path}/child; sleep 60"

    with pytest.raises(DeadlineError):
        CommandMasterKey(("sh", "-c", script), deadline_s=0.3).sign(b"text")

    child = int((tmp_path / "child").read_text())
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True, check=False
    )
    assert state.stdout.strip() in ("", "Z")


def test_the_master_key_may_be_in_a_token(repository, store, tmp_path):
    pytest.importorskip("pkcs11")
    module = "/usr/lib/softhsm/libsofthsm2.so"
    if not (os.path.exists(module) and shutil.which("softhsm2-util")):
        missing("softhsm2 is not installed")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "pin").write_text("1234\n")
    (tmp_path / "conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    tool = ["softhsm2-util", "--token", "cern", "--pin", "1234"]
    env = {**os.environ, "SOFTHSM2_CONF": str(tmp_path / "conf")}
    make = ["softhsm2-util", "--init-token", "--free", "--label", "cern", "--so-pin", "0000"]
    subprocess.run([*make, "--pin", "1234"], env=env, check=True, capture_output=True)
    load = [*tool, "--import", str(repository.keys.master), "--label", "master", "--id", "01"]
    subprocess.run(load, env=env, check=True, capture_output=True)
    repository.keys.master.unlink()
    location = f"pkcs11:token=cern;object=master?module-path={module}&pin-source={tmp_path}/pin"
    script = (
        "import sys; from cernvm.fs.publish.master import open_master;"
        "sys.stdout.buffer.write(open_master(sys.argv[1], None).sign(sys.stdin.buffer.read()))"
    )

    # the library reads its configuration once in a process
    words = ["env", f"SOFTHSM2_CONF={tmp_path}/conf", sys.executable, "-c", script, location]
    renew(with_master(repository, f"command:{shlex.join(words)}"), store)

    read_back(repository, store)


@pytest.mark.parametrize(
    "location",
    [
        "pkcs11:token=a",
        "pkcs11:token=a;object=b?module-path=c&pin-value=1234",
        "pkcs11:",
        "command:",
    ],
)
def test_a_location_that_makes_no_sense_is_refused(location, repository):
    with pytest.raises(InvalidInputError):
        open_master(location, repository.keys)


def test_without_a_terminal_nobody_is_asked_for_a_pin():
    key = parse_token("pkcs11:token=a;object=b?module-path=/nowhere.so")

    assert not key.is_at_hand


def test_a_whitelist_is_signed_anew_without_its_repository(repository, store, tmp_path, cvm):
    lone = tmp_path / "lone"
    lone.write_bytes(store.get(".cvmfswhitelist"))
    before = read_whitelist(repository, store)

    cvm(
        "repo", "resign", "--whitelist", lone, "--master-key", repository.keys.master,
        "--days", 90, CVM_HOME=str(tmp_path / "nothing"),
    )  # fmt: skip

    store.replace(".cvmfswhitelist", lone.read_bytes())
    after = read_whitelist(repository, store)
    assert after.fingerprints == before.fingerprints
    assert after.expires_at - after.created_at == timedelta(days=90)
    read_back(repository, store)


def test_a_damaged_whitelist_is_not_signed(repository, store, tmp_path):
    lone = tmp_path / "lone"
    lone.write_bytes(store.get(".cvmfswhitelist").replace(b"Nt.cernvm", b"Nu.cernvm"))

    with pytest.raises(Exception, match="damaged"):
        resign_whitelist(lone, str(repository.keys.master), now=datetime.now(UTC), days=30)


def test_people_are_warned_long_before_a_whitelist_runs_out(repository, store):
    whitelist = read_whitelist(repository, store)
    now = datetime.now(UTC)

    assert expiry_warning(whitelist, now=now) == ""
    assert "expires at" in expiry_warning(whitelist, now=now + timedelta(days=21))
    assert "expired at" in expiry_warning(whitelist, now=now + timedelta(days=31))


def test_root_catalog_and_certificate_may_lie_beside_the_manifest(home, made_keys, tree):
    shutil.copytree(made_keys.folder, home.keys)
    made = new_repository(home, "t.cernvm.test")
    made = dataclasses.replace(made, settings=Settings(alternative_paths=True))
    create_repository(home, made)
    store = open_storage(made)

    publish_tree(made, store, tree)

    manifest = read_back(made, store)[1]
    assert manifest.alternative_paths
    assert store.has(alternative_path(manifest.root_catalog, ObjectKind.CATALOG))
    assert store.has(alternative_path(manifest.certificate, ObjectKind.CERTIFICATE))


def test_a_second_signature_follows_every_revision(repository, store, tree):
    begin_second_signature(repository, store)
    publish_tree(repository, store, tree)
    rotate_signing_key(repository, store, wait=lambda _: None)

    manifest = read_manifest(repository, store)
    assert manifest.second_signature
    assert len(manifest.root_catalog_sha256) == 64
    assert repository.keys.second.stat().st_mode & 0o777 == 0o600
    read_back(repository, store)

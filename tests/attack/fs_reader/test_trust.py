"""Each way to put another revision, another repository or another signer in the place of the right one."""

from datetime import timedelta

import pytest

from attack.fs_reader.forge import (
    HOST,
    MASTER_KEY,
    NAME,
    NOW,
    SHA1,
    SIGNING_KEY,
    STRANGER_KEY,
    CatalogMaker,
    Client,
    Forge,
    certificate_of,
    honest,
    letter,
)
from cernvm.core.errors import ExpiredError, HostError, RollbackError, SignatureError
from cernvm.fs.cache import Breadcrumb, MemoryCache
from cernvm.fs.format.blacklist import Blacklist
from cernvm.fs.format.letter import parse_letter
from cernvm.fs.format.objects import MANIFEST_PATH, WHITELIST_PATH
from cernvm.fs.format.signature import CryptographyVerifier, public_key_of
from cernvm.fs.format.trust import open_manifest
from cernvm.fs.reader import Pin
from cernvm.net import Fault


def revision(number, *, age=0, **more):
    forge = Forge()
    maker = CatalogMaker(entries={b"/file": forge.file(b"file", b"revision %d" % number)})
    published_at = NOW - timedelta(days=age)
    return forge.publish(maker, revision=number, published_at=published_at, **more).documents


BROKEN_LINKS = {
    "the manifest is signed by a stranger": {"signing_key": STRANGER_KEY},
    "the certificate is a stranger's": {
        "signing_key": STRANGER_KEY,
        "certificate_key": STRANGER_KEY,
    },
    "the whitelist is signed by a stranger": {"master_key": STRANGER_KEY},
    "the whitelist lists another certificate": {"listed_key": STRANGER_KEY},
    "the manifest is another repository's": {"manifest_name": "other.cernvm.test"},
    "the whitelist is another repository's": {"whitelist_name": "other.cernvm.test"},
}


@pytest.mark.parametrize("link", BROKEN_LINKS)
def test_a_broken_link_of_the_chain_is_a_signature_error(link):
    with pytest.raises(SignatureError):
        Client(revision(1, **BROKEN_LINKS[link])).mount()


@pytest.mark.parametrize("link", BROKEN_LINKS)
def test_an_honest_second_host_makes_up_for_a_broken_link(link):
    client = Client(revision(1, **BROKEN_LINKS[link]), revision(1))

    assert client.read(client.mount(), b"/file") == b"revision 1"


def blacklisting(key):
    der = CryptographyVerifier().read_certificate(certificate_of(key, NAME)).der
    return lambda: Blacklist(frozenset({SHA1.digest(der)}))


def test_a_blacklisted_certificate_is_refused_although_the_whitelist_has_it():
    client = Client(revision(1))
    client.blacklist = blacklisting(SIGNING_KEY)

    with pytest.raises(SignatureError, match="blacklisted"):
        client.mount()


def test_another_blacklisted_certificate_is_no_hindrance():
    client = Client(revision(1))
    client.blacklist = blacklisting(STRANGER_KEY)

    assert client.read(client.mount(), b"/file") == b"revision 1"


@pytest.mark.parametrize("how", ["pinned", "offline", "mounted"])
def test_a_blacklisted_revision_is_refused_however_it_is_come_by(how):
    client = Client(revision(1))
    lowest = {}
    client.blacklist = lambda: Blacklist(lowest_revisions=lowest)
    view = client.mount()
    lowest[NAME] = 2
    if how == "mounted":
        view.reload(client.deadline())
        assert "blacklisted" in str(client.repository.refusal)
        return
    if how == "pinned":
        client.pin = Pin(root_catalog=str(client.repository.revision.root_catalog))
    else:
        client.exchange.faults[HOST, ""] = Fault.REFUSED
    with pytest.raises(RollbackError, match="blacklisted"):
        client.mount()


def test_an_expired_whitelist_is_refused():
    with pytest.raises(ExpiredError):
        Client(revision(1, expires_at=NOW - timedelta(hours=1))).mount()


def test_a_key_that_the_user_does_not_have_is_not_believed():
    with pytest.raises(SignatureError):
        Client(revision(1), keys=[public_key_of(STRANGER_KEY)]).mount()


def test_any_of_several_keys_will_do():
    keys = [public_key_of(STRANGER_KEY), public_key_of(MASTER_KEY)]

    assert Client(revision(1), keys=keys).mount().revision == 1


def test_without_a_key_nothing_is_believed():
    with pytest.raises(SignatureError):
        Client(revision(1), keys=[]).mount()


def test_manifest_and_whitelist_of_two_repositories_do_not_mix():
    other = Forge("other.cernvm.test").publish(CatalogMaker()).documents

    with pytest.raises(SignatureError):
        Client(honest().documents | {MANIFEST_PATH: other[MANIFEST_PATH]}).mount()
    with pytest.raises(SignatureError):
        Client(honest().documents | {WHITELIST_PATH: other[WHITELIST_PATH]}).mount()


def test_a_mounted_client_ignores_an_older_revision():
    client = Client(revision(5))
    view = client.mount()
    client.exchange.documents["http://host"] |= revision(4)

    assert not view.reload(client.deadline())
    assert view.revision == 5
    assert "revision 4" in view.why(b"/").revision_error


def test_a_revision_published_earlier_is_ignored_whatever_its_number():
    client = Client(revision(5))
    view = client.mount()
    client.exchange.documents["http://host"] |= revision(6, age=1)

    assert not view.reload(client.deadline())
    assert view.revision == 5


def test_a_new_mount_shows_the_last_revision_seen_rather_than_an_older_one():
    client = Client(revision(5))
    client.mount()
    client.exchange.documents["http://host"] |= revision(4)

    view = client.mount()

    assert view.revision == 5
    assert client.read(view, b"/file") == b"revision 5"


def test_a_new_mount_whose_cache_is_gone_refuses_an_older_revision():
    client = Client(revision(5))
    client.mount()
    client.cache = MemoryCache(quota_bytes=1 << 26)
    client.exchange.documents["http://host"] = revision(4)

    with pytest.raises(RollbackError):
        client.mount()


def test_a_stale_host_is_passed_by_for_one_that_is_up_to_date():
    client = Client(revision(4), revision(5))
    client.breadcrumbs.leave(NAME, _breadcrumb(revision(5)))

    assert client.mount().revision == 5


def _breadcrumb(documents):
    manifest = open_manifest(documents[MANIFEST_PATH], name=NAME)
    return Breadcrumb(manifest.root_catalog, int(NOW.timestamp()), manifest.revision)


def test_an_unsigned_manifest_of_the_shown_revision_changes_nothing():
    documents = revision(5)
    client = Client(documents)
    view = client.mount()
    text = parse_letter(documents[MANIFEST_PATH], where="").text
    forged = letter(text.replace("S5\n", "S999\n"), lambda _: b"no signature")
    client.exchange.documents["http://host"] = documents | {MANIFEST_PATH: forged}

    assert not view.reload(client.deadline())
    assert view.revision == 5
    client.exchange.documents["http://host"] |= revision(6)
    assert view.reload(client.deadline())
    assert view.revision == 6


def test_an_expired_whitelist_keeps_the_mounted_revision():
    client = Client(revision(5))
    view = client.mount()
    client.exchange.documents["http://host"] |= revision(6, expires_at=NOW - timedelta(days=1))

    assert not view.reload(client.deadline())
    assert view.revision == 5
    assert "expired" in view.why(b"/file").revision_error


def test_a_replay_of_the_shown_revision_confirms_it_no_longer_than_the_whitelist_allows():
    client = Client(revision(5, expires_at=NOW + timedelta(hours=2)))
    view = client.mount()
    client.clock.advance(3600)
    view.reload(client.deadline())
    assert view.why(b"/file").revision_error == ""

    client.clock.advance(3 * 3600)

    assert not view.reload(client.deadline())
    why = view.why(b"/file")
    assert "expired" in why.revision_error
    assert why.checked_s == 3 * 3600


def test_without_a_network_the_last_revision_is_mounted():
    client = Client(revision(5))
    client.read(client.mount(), b"/file")
    client.exchange.faults["http://host", ""] = Fault.REFUSED

    view = client.mount()

    assert client.read(view, b"/file") == b"revision 5"
    assert view.why(b"/file").checked_s is None


def test_without_a_network_and_with_an_empty_cache_the_host_is_named():
    client = Client(revision(5))
    client.exchange.faults["http://host", ""] = Fault.REFUSED

    with pytest.raises(HostError, match="http://host"):
        client.mount()

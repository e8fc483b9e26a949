"""A blacklisted revision or certificate is not mounted, also not from the cache."""

import pytest

from system.published import published

NAME = "sft.cernvm.test"


@pytest.fixture
def show(cvm, home, tmp_path):
    """Publish two revisions; look at one by the client that the configuration makes."""
    from pathlib import PurePosixPath

    from cernvm.fs.client import open_client
    from cernvm.fs.parameters import configured_settings

    etc, tree = tmp_path / "etc", tmp_path / "tree"
    etc.mkdir()
    tree.mkdir()

    def revision(blacklist):
        (etc / "blacklist").write_text(blacklist)
        settings = configured_settings(NAME, home=home, environment={}, root=PurePosixPath(etc))
        with open_client(settings.client) as client:
            return client.view.revision

    with published(cvm, home, NAME, tree) as url:
        key = next(home.path.rglob(f"{NAME}.pub"))
        (etc / "default.conf").write_text(
            f"CVMFS_SERVER_URL={url}/cvmfs/{NAME}\nCVMFS_PUBLIC_KEY={key}\n"
        )
        yield revision


def test_a_revision_below_the_lowest_allowed_is_refused_from_servers_and_cache(show):
    from cernvm.core.errors import RollbackError

    shown = show("# nothing")
    assert show(f"<{NAME} {shown}") == shown
    assert show(f"<other.test {shown + 1}") == shown
    with pytest.raises(RollbackError, match="blacklisted"):
        show(f"<{NAME} {shown + 1}")


def test_a_list_that_cannot_be_read_lets_nothing_through(show):
    from cernvm.core.errors import LetterFormatError

    with pytest.raises(LetterFormatError):
        show("nonsense")


def test_a_blacklisted_certificate_is_refused(show, home):
    from cernvm.core.errors import SignatureError
    from cernvm.fs.format.letter import parse_letter
    from cernvm.fs.format.whitelist import format_fingerprint, parse_whitelist

    document = next(home.path.rglob(".cvmfswhitelist")).read_bytes()
    (listed, *_) = parse_whitelist(parse_letter(document, where="whitelist").text).fingerprints
    with pytest.raises(SignatureError, match="blacklisted"):
        show(format_fingerprint(listed))

import pytest

from cernvm.core.errors import InvalidInputError
from cernvm.storage import StorageClient


@pytest.mark.parametrize(
    "url",
    [
        "",
        "storage:80",
        "ftp://h:1",
        "http://",
        "http://h",
        "http://h:x",
        "http://[h:1",
        "http://h:1/p",
    ],
)
def test_a_url_that_is_no_storages_is_refused(url):
    with pytest.raises(InvalidInputError, match="storage URL"):
        StorageClient(url, "token")

from cernvm.cli.why import _attempt_lines
from cernvm.core.errors import HostError

URL = "http://s/cvmfs/x/.cvmfspublished"


def test_an_attempt_names_its_url_once():
    error = HostError(URL, "connection refused")
    attempt = {"url": URL, "proxy": "DIRECT", "error": error.what, "took_s": 0.002}

    (line,) = _attempt_lines([attempt])

    assert line.strip() == f"{URL}: connection refused (2 ms)"
    assert error.advice

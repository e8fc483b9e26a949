"""A repository made here, published and served by `cvm`, for the tests of several rooms."""

import os
import re
import subprocess
from contextlib import contextmanager

from conftest import CVM


@contextmanager
def published(cvm, home, name, tree):
    """Publish a tree and serve it; gives the server's URL, and ends the server within the 5 s it may take."""
    cvm("repo", "create", name)
    cvm("repo", "publish", name, tree)
    server = subprocess.Popen(
        [CVM, "repo", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "CVM_HOME": str(home.path)},
    )
    try:
        line = server.stdout.readline()
        yield re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)[1]
    finally:
        server.terminate()
        try:
            server.wait(5)
        finally:
            server.stdout.close()

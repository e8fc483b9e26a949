"""A crowd that ends with its test."""

import pytest

from system.crowd import Crowd


@pytest.fixture
def crowd(tmp_path):
    made = Crowd(tmp_path)
    yield made
    made.close()

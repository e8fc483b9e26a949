import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.fs.vfs.variant import expand


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"plain/target", b"plain/target"),
        (b"$(ARCH)/lib", b"x86_64/lib"),
        (b"$(ARCH:-arm)/$(OS:-el9)", b"x86_64/el9"),
        (b"$(OS)/lib", b"/lib"),
        (b"$(OS:-)", b""),
        (b"$(not a name)", b"$(not a name)"),
        (b"$(OPEN", b"$(OPEN"),
        (b"$ARCH", b"$ARCH"),
    ],
)
def test_variables_are_replaced_and_everything_else_stays(target, expected):
    assert expand(target, {"ARCH": "x86_64"}) == expected


@given(st.binary(max_size=50))
def test_any_target_can_be_expanded(target):
    assert b"$(" in target or expand(target, {}) == target
    expand(target, {})


def test_a_value_is_not_expanded_again():
    assert expand(b"$(A)", {"A": "$(B)", "B": "x"}) == b"$(B)"

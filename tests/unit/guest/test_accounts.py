import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cernvm.context.kinds import Account
from cernvm.core.errors import ExistsError, InvalidInputError
from cernvm.guest.accounts import AccountFiles, Login, find_login, with_account
from cernvm.guest.password import matches

FILES = AccountFiles(
    "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\nold:x:1000:1000::/home/old:/bin/sh\n",
    "root:x:0:\ndaemon:x:1:\nold:x:1000:\nstaff:x:1001:\n",
    "root:*:19000:0:99999:7:::\nold:$y$j9T$x$y:19000:0:99999:7:::\n",
    "root:*::\nold:!::\n",
)
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=4)


def add(files, user, group, password="", shell="/bin/sh", today=20000):
    return with_account(files, Account(user, group, password), shell, today_days=today)


def test_a_new_account_gets_the_first_number_free_for_users_and_groups():
    files, login = add(FILES, "pilot", "evgen")

    assert login == Login("pilot", 1002, 1002, "/home/pilot")
    assert files.passwd == FILES.passwd + "pilot:x:1002:1002::/home/pilot:/bin/sh\n"
    assert files.group == FILES.group + "evgen:x:1002:\n"
    assert files.gshadow == FILES.gshadow + "evgen:!::\n"
    assert files.shadow == FILES.shadow + "pilot:!:20000:0:99999:7:::\n"


def test_a_group_that_is_there_is_used():
    files, login = add(FILES, "pilot", "staff")

    assert login.gid == 1001
    assert files.group == FILES.group


def test_a_second_time_changes_nothing():
    files, login = add(FILES, "pilot", "evgen", "secret")

    assert add(files, "pilot", "evgen", "secret", today=20001) == (files, login)


def test_a_changed_account_has_the_difference_only():
    first, _ = add(FILES, "pilot", "evgen", "secret")
    second, _ = add(first, "pilot", "evgen", "other", "/bin/bash", today=20001)
    third, _ = add(second, "pilot", "evgen", "", "/bin/bash")

    assert second.passwd == first.passwd.replace("/home/pilot:/bin/sh", "/home/pilot:/bin/bash")
    fields = second.shadow.splitlines()[-1].split(":")
    assert matches("other", fields[1])
    assert fields[2] == "20001"
    assert third.shadow.splitlines()[-1].startswith("pilot:!:")
    assert second.group == first.group


def test_a_system_account_is_left_alone():
    with pytest.raises(ExistsError, match="system account 'daemon'"):
        add(FILES, "daemon", "daemon")


def test_an_account_keeps_its_primary_group():
    with pytest.raises(ExistsError, match="'old'"):
        add(FILES, "old", "staff")


@pytest.mark.parametrize("line", ["pilot:x", "pilot:x:abc:1::/:/bin/sh", "pilot:x:٣:1::/:/bin/sh"])
def test_a_damaged_line_is_an_error(line):
    with pytest.raises(InvalidInputError):
        add(AccountFiles(f"{line}\n", "pilot:x:1000:\n", ""), "pilot", "pilot")


def test_files_without_a_last_line_end_stay_right():
    files, _ = add(AccountFiles("root:x:0:0::/:/bin/sh", "", ""), "a", "a")

    assert files.passwd == "root:x:0:0::/:/bin/sh\na:x:1000:1000::/home/a:/bin/sh\n"
    assert files.gshadow is None


def test_passwords_are_not_in_the_repr():
    assert "secret" not in repr(add(FILES, "pilot", "evgen", "secret"))
    assert "$6$" not in repr(add(FILES, "pilot", "evgen", "secret"))


@settings(max_examples=50)
@given(st.lists(st.tuples(NAMES, NAMES), max_size=8, unique_by=lambda pair: pair[0]))
def test_accounts_never_share_a_number(pairs):
    files = FILES
    for user, group in pairs:
        if user not in ("root", "old"):
            files, login = add(files, user, group)
            assert find_login(files.passwd, user) == login

    numbers = [line.split(":")[2] for line in files.passwd.splitlines()]
    groups = [line.split(":")[2] for line in files.group.splitlines()]
    assert len(set(numbers)) == len(numbers)
    assert len(set(groups)) == len(groups)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.cloud.region import find_region
from cernvm.core.errors import ConfigError, CvmError, InvalidInputError, NotFoundError
from cernvm.core.home import Home

FILE = """
# the seed's form
[Credentials]
access_key_id = FILE
secret_access_key = file-secret
keypair_name = ami
[Service]
Region = CERN
Url = https://ixcloud.example/services/Cloud
"""
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's home folder, and an empty working folder."""
    (tmp_path / "user/.ec2").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "user"


def find(home, user, name="CERN", **environment):
    return find_region(name, home=home, environment={"HOME": str(user), **environment})


def write(path, text=FILE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_region_file_says_all(home, user):
    write(home.clouds / "CERN.conf")

    region = find(home, user)

    assert (region.access_key_id, region.secret_access_key) == ("FILE", "file-secret")
    assert (region.url, region.signing_region) == (
        "https://ixcloud.example/services/Cloud",
        "CERN",
    )
    assert (region.key_name, region.kind) == ("ami", "ec2")


def test_the_data_folder_comes_before_the_users(home, user):
    write(home.clouds / "CERN.conf")
    write(user / ".ec2/CERN.conf", FILE.replace("FILE", "USER"))

    assert find(home, user).access_key_id == "FILE"


def test_a_file_of_the_user_or_the_working_folder_is_found(home, user, tmp_path):
    write(tmp_path / "work/HERE.conf", FILE.replace("FILE", "WORK"))
    write(user / ".ec2/CERN.conf", FILE.replace("FILE", "USER"))

    assert find(home, user).access_key_id == "USER"
    assert find(home, user, "HERE").access_key_id == "WORK"


def test_the_shared_file_serves_the_region_it_names(home, user):
    write(user / ".ec2/ec2.conf")

    assert find(home, user).access_key_id == "FILE"
    with pytest.raises(NotFoundError):
        find(home, user, "EC2")


def test_the_environment_wins_over_a_users_file_but_not_over_a_sites(home, user):
    write(user / ".ec2/CERN.conf")
    write(home.clouds / "local.conf")

    assert find(home, user, **ENVIRONMENT).secret_access_key == "env-secret"
    assert find(home, user, "local", **ENVIRONMENT).secret_access_key == "file-secret"


def test_the_environment_alone_is_enough(home, user):
    region = find(home, user, "any", EC2_URL="http://127.0.0.1:1", **ENVIRONMENT)

    assert (region.url, region.access_key_id) == ("http://127.0.0.1:1", "ENV")


def test_a_files_url_wins_over_the_environments(home, user):
    write(user / ".ec2/CERN.conf")

    assert find(home, user, EC2_URL="http://127.0.0.1:1").url.startswith("https://ixcloud")


def test_an_unknown_region_is_told_with_the_known_ones(home, user):
    write(home.clouds / "local.conf")

    with pytest.raises(NotFoundError) as caught:
        find(home, user, "moon")
    assert "local" in caught.value.advice


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a/b", ".hidden", "x" * 100])
def test_a_name_cannot_leave_the_folder(home, user, name):
    with pytest.raises(InvalidInputError):
        find(home, user, name)


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "[Credentials]\naccess_key_id = a\n",
        FILE.replace("https", "ftp"),
        FILE + "Colour = red\n",
        FILE + "[Other]\nx = 1\n",
    ],
)
def test_a_damaged_file_is_named(home, user, text):
    write(home.clouds / "CERN.conf", text)

    with pytest.raises(ConfigError, match=r"CERN\.conf"):
        find(home, user)


def test_the_secret_is_not_shown(home, user):
    write(home.clouds / "CERN.conf")

    assert "file-secret" not in repr(find(home, user))


@given(data=st.binary(max_size=300))
def test_no_file_breaks_the_reader(tmp_path_factory, data):
    home = Home(tmp_path_factory.mktemp("region"))
    home.clouds.mkdir()
    (home.clouds / "x.conf").write_bytes(data)

    try:
        find_region("x", home=home, environment={})
    except CvmError:
        pass


@pytest.mark.parametrize("text", ["[x", "[Servant]\nUrl = x\n", "[Service]\nColour = x\n", ""])
def test_a_damaged_region_file_is_told_with_the_next_step(home, text):
    home.clouds.mkdir(parents=True)
    (home.clouds / "x.conf").write_text(text)

    with pytest.raises(ConfigError) as refused:
        find_region("x", home=home, environment={})

    assert "x.conf" in refused.value.what
    assert refused.value.advice


@pytest.mark.parametrize(("mode", "warns"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_secret_that_others_may_read_is_pointed_out(home, user, caplog, mode, warns):
    path = home.clouds / "CERN.conf"
    write(path)
    path.chmod(mode)

    find(home, user)

    told = [record.cvm_fields["mend"] for record in caplog.records]
    assert told == ([f"chmod 600 {path}"] if warns else [])

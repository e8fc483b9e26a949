import shlex
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from cernvm.context.kinds import Account, Command
from cernvm.context.reading import Context, PilotAccess
from cernvm.guest.plan import (
    EnsureAccount,
    Plan,
    RequireRepository,
    SetHostname,
    WriteBlock,
    WriteFile,
    make_plan,
)
from cernvm.guest.sources.port import InstanceData

TEXT = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=20)
CONTEXT = Context(
    organisations=("evgen", "atlas"),
    repositories=("sft.cernvm.test",),
    users=(Account("pilot", "pilot"), Account("other", "other")),
    shell="/bin/bash",
    proxy="http://a|http://b;DIRECT",
    environment=(("A", "1"), ("B", "x y'#")),
    command=Command("other", ("/bin/run",)),
    pilot=PilotAccess("h:1", "a@b", "c@d", "geheim"),
)


NAMELESS = InstanceData()


def steps(context, instance=NAMELESS):
    return {step.name: step for step in make_plan(context, instance).steps}


def test_an_empty_context_on_a_nameless_instance_is_an_empty_plan():
    assert make_plan(Context(), InstanceData()) == Plan()


def test_a_context_becomes_steps_in_the_order_they_need_each_other():
    plan = make_plan(CONTEXT, InstanceData(hostname="w1.x", ipv4="10.0.0.2"))

    assert [step.name for step in plan.steps] == [
        "hostname", "hosts", "account:pilot", "account:other", "site-conf", "environment", "environment-file",
        "repository:sft.cernvm.test", "pilot-config",
    ]  # fmt: skip
    assert plan.launch.needs == (
        "account:other", "environment", "repository:sft.cernvm.test", "pilot-config",
    )  # fmt: skip


def test_the_context_names_the_machine_before_the_cloud_does():
    named = steps(Context(hostname="mine"), InstanceData(hostname="cloud.x", ipv4="10.0.0.2"))

    assert named["hostname"] == SetHostname("hostname", "mine")
    assert named["hosts"] == WriteBlock(
        "hosts", "/etc/hosts", ("127.0.0.1 localhost", "10.0.0.2 mine")
    )
    cloud = steps(Context(), InstanceData(hostname="cloud.x"))
    assert cloud["hosts"].lines[1] == "127.0.1.1 cloud.x cloud"


def test_accounts_get_the_shell_of_the_context():
    assert steps(CONTEXT)["account:pilot"] == EnsureAccount(
        "account:pilot", Account("pilot", "pilot"), "/bin/bash"
    )


def test_the_site_configuration_is_quoted_for_a_shell():
    assert steps(CONTEXT)["site-conf"].content.decode().splitlines() == [
        "CERNVM_ORGANISATION=evgen,atlas",
        "CVMFS_REPOSITORIES=sft.cernvm.test",
        "CVMFS_HTTP_PROXY='http://a|http://b;DIRECT'",
    ]


def test_the_pilots_configuration_is_private_to_the_first_user():
    step = steps(CONTEXT)["pilot-config"]

    assert isinstance(step, WriteFile)
    assert (step.mode, step.owner, step.needs) == (0o600, "pilot", ("account:pilot",))
    assert "geheim" not in repr(make_plan(CONTEXT, InstanceData()))


@given(TEXT)
def test_the_pilots_configuration_is_toml_whatever_the_password(password):
    context = Context(users=(Account("p", "p"),), pilot=PilotAccess("h:1", "a@b", "c@d", password))

    assert tomllib.loads(steps(context)["pilot-config"].content.decode()) == {
        "server": "h:1", "jid": "a@b", "manager": "c@d", "password": password,
    }  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,3}", fullmatch=True), TEXT, min_size=1))
def test_a_login_shell_gets_the_environment_word_for_word(variables):
    plan = steps(Context(environment=tuple(variables.items())))

    text = plan["environment"].content.decode()
    words = shlex.split(text.replace("export ", ""))
    assert dict(word.split("=", 1) for word in words) == variables


def test_what_pam_would_garble_stays_out_of_etc_environment():
    assert steps(CONTEXT)["environment-file"].lines == ('A="1"',)


def test_a_repository_is_required_by_its_name():
    assert steps(CONTEXT)["repository:sft.cernvm.test"] == RequireRepository(
        "repository:sft.cernvm.test", "sft.cernvm.test"
    )

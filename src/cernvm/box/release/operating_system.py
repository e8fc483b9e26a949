"""The operating system release: a minimal Debian 12 that carries the guest agent and the pilot.

An instance gets devices, a network and `/cvmfs` from its host, and no files: all it runs comes from this tree.
"""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cernvm
from cernvm.box.release.inputs import (
    Layer,
    Progress,
    Release,
    build_release,
    digest_of,
    digest_of_files,
    source_files,
)
from cernvm.box.release.tools import (
    compile_bytecode,
    mmdebstrap,
    pip_install,
    remove_tree,
    requirement_file,
    run_tool,
)
from cernvm.core.errors import CvmError
from cernvm.core.home import ensure_folder

REPOSITORY = "os.cernvm.test"
PACKAGES = (
    "python3",  # with its whole standard library: the guest agent, the pilot and `cvm` are Python
    "passwd",  # useradd
    "netbase",  # /etc/protocols and /etc/services
    "ca-certificates",
)
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"
LAYOUT = 1  # counts up when this module builds something else from the same inputs

_PROGRAMS = {
    "usr/sbin/cernvm-init": "#!/usr/bin/python3 -sEB\nfrom cernvm.guest.boot import main\n\nraise SystemExit(main())\n",
    "usr/bin/cvm": "#!/usr/bin/python3 -sB\nfrom cernvm.cli.main import main\n\nmain()\n",
}
# what a start of the guest agent, the pilot and `cvm` needs; a release in which one is missing is not finished
_MUST_IMPORT = (
    "import cernvm.guest.boot, cernvm.pilot.pilot_agent, cernvm.cli.main, cernvm.fs.mount"
)


def build_operating_system(releases: Path, progress: Progress) -> Release:
    """The release's tree in `releases/os`, built as far as it is not there yet.

    Errors: of `tools`; `CvmError` when the finished tree cannot run its own programs.
    Concurrency: needs to be root of the machine or of a user namespace.
    """
    return build_release(releases / "os", layers(), progress)


def layers() -> list[Layer]:
    """Debian, then what our programs need, then our programs."""
    package = Path(cernvm.__file__).parent
    requirements = requirement_file("guest")
    return [
        Layer("debian", digest_of(["debian", str(LAYOUT), *PACKAGES]), _build_debian),
        Layer("requirements", digest_of(["pip", requirements.read_bytes()]), _install_requirements),
        Layer(
            "cernvm",
            digest_of(["cernvm", *_PROGRAMS.values(), digest_of_files(package)]),
            _install_programs,
        ),
    ]


def _build_debian(tree: Path, progress: Progress) -> None:
    mmdebstrap(tree, variant="essential", packages=PACKAGES, progress=progress)
    # every instance is given its own /dev, and a user namespace may not make nodes: leave none
    for node in (tree / "dev").iterdir():
        remove_tree(node) if node.is_dir() and not node.is_symlink() else node.unlink()
    for name in ("var/cache/apt", "var/lib/apt/lists", "var/log", "var/cache/debconf"):
        remove_tree(tree / name)
        ensure_folder(tree / name)
    # written by the builder's machine; an instance writes its own
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
        (tree / name).unlink(missing_ok=True)
    ensure_folder(tree / "cvmfs")


def _install_requirements(tree: Path, progress: Progress) -> None:
    pip_install(requirement_file("guest"), tree, SITE_PACKAGES, progress)
    _compile(tree, progress)


def _install_programs(tree: Path, progress: Progress) -> None:
    progress("installing the guest agent and the pilot")
    site_packages = tree / SITE_PACKAGES
    for old in site_packages.glob("cernvm*"):
        remove_tree(old)
    source = Path(cernvm.__file__).parent
    for path in source_files(source):
        target = site_packages / "cernvm" / path.relative_to(source)
        ensure_folder(target.parent)
        shutil.copyfile(path, target)
    _write_metadata(site_packages)
    for name, text in _PROGRAMS.items():
        program = tree / name
        program.unlink(missing_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    _compile(tree, progress)
    _check(tree, progress)


def _write_metadata(site_packages: Path) -> None:
    """What `importlib.metadata` needs to tell our version."""
    try:
        text = distribution("cernvm").read_text("METADATA")
    except PackageNotFoundError:
        text = None
    if text:
        version = distribution("cernvm").version
        folder = ensure_folder(site_packages / f"cernvm-{version}.dist-info")
        (folder / "METADATA").write_text(text)


def _compile(tree: Path, progress: Progress) -> None:
    """Bytecode by the tree's own interpreter, which may be another version than ours; never checked against sources."""
    python = ["chroot", str(tree), "/usr/bin/python3"]
    compile_bytecode(python, [f"/{SITE_PACKAGES}"], progress=progress)


def _check(tree: Path, progress: Progress) -> None:
    """Debian's own interpreter in the tree must be able to import what an instance starts."""
    command = ["chroot", str(tree), "/usr/bin/python3", "-sEB", "-c", _MUST_IMPORT]
    try:
        run_tool(command, progress=progress, source="the operating system release")
    except CvmError as error:
        raise CvmError(f"the release in {tree} cannot run its own programs: {error}") from error

"""The software release: a self-contained high-energy physics stack that runs from any folder.

A relocatable CPython (Debian's, unpacked), Pythia 8, NumPy, Awkward, uproot, hist and matplotlib, and the programs
`bin/evgen`, `bin/plot` and `bin/python3`. Only the C library is the operating system's.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from cernvm.box.release.inputs import Layer, Progress, Release, build_release, digest_of
from cernvm.box.release.tools import (
    compile_bytecode,
    download_debian_packages,
    pip_install,
    remove_tree,
    requirement_file,
    run_tool,
    unpack_debian_packages,
)
from cernvm.core.home import ensure_folder

REPOSITORY = "sft.cernvm.test"
DEBIAN_PACKAGES = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    # the interpreter's libraries
    "libexpat1",
    "zlib1g",
    "libssl3",
    "libffi8",
    "libsqlite3-0",
    "libbz2-1.0",
    "liblzma5",
    "libreadline8",
    "libncursesw6",
    "libtinfo6",
    "libuuid1",
    # the wheels' libraries
    "libstdc++6",
    "libgcc-s1",
)
PROGRAMS = ("evgen", "plot")
# Debian's interpreter looks here by itself, wherever its tree lies
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"
PROGRAM_FOLDER = "usr/local/share/evgen"
STANDARD_LIBRARY = "usr/lib/python3.11"
ENERGY_TEV = 13
LAYOUT = 1  # counts up when this module builds something else from the same inputs

# -s -E: neither the user's packages nor the environment change what the release is; -B: it is read-only
_WRAPPER = """\
#!/bin/sh
# Runs {what} with this release's own interpreter and libraries, wherever the release is mounted.
root=$(dirname "$(dirname "$(readlink -f "$0")")")
for folder in "$root"/usr/lib/*-linux-gnu "$root"/lib/*-linux-gnu; do
    LD_LIBRARY_PATH=$folder${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
done
export LD_LIBRARY_PATH
export PYTHIA8DATA="$root/{site_packages}/share/Pythia8/xmldoc"
exec "$root/usr/bin/python3.11" -s -E -B {program}"$@"
"""
_MUST_IMPORT = "import pythia8mc, numpy, awkward, uproot, hist, matplotlib, ssl, sqlite3, lzma, bz2"
# each opens a nested catalog of its own: they are large, and rarely used together
_CATALOGS = ("", SITE_PACKAGES, f"{SITE_PACKAGES}/share/Pythia8", STANDARD_LIBRARY)


def build_software(releases: Path, progress: Progress) -> Release:
    """The release's tree in `releases/sft`, built as far as it is not there yet."""
    return build_release(releases / "sft", layers(), progress)


def layers() -> list[Layer]:
    """The interpreter, the packages, the programs."""
    requirements = requirement_file("hep").read_bytes()
    sources = [_source(name).read_bytes() for name in PROGRAMS]
    return [
        Layer("python", digest_of(["python", str(LAYOUT), *DEBIAN_PACKAGES]), _build_python),
        Layer("packages", digest_of(["pip", requirements]), _install_packages),
        Layer(
            "programs", digest_of(["programs", _WRAPPER, *_CATALOGS, *sources]), _install_programs
        ),
    ]


def _build_python(tree: Path, progress: Progress) -> None:
    remove_tree(tree)
    packages_folder = tree.with_name(f"{tree.name}.packages")
    packages = download_debian_packages(DEBIAN_PACKAGES, packages_folder, progress)
    unpack_debian_packages(packages, tree, progress)
    remove_tree(packages_folder)
    for name in ("usr/share/doc", "usr/share/lintian", "usr/share/man", "etc"):
        remove_tree(tree / name)
    _write_wrapper(tree, "python3", program="", what="Python")
    _compile(tree, STANDARD_LIBRARY, progress)


def _install_packages(tree: Path, progress: Progress) -> None:
    pip_install(requirement_file("hep"), tree, SITE_PACKAGES, progress)
    _compile(tree, SITE_PACKAGES, progress)
    check = [str(tree / "bin/python3"), "-c", _MUST_IMPORT]
    with tempfile.TemporaryDirectory(dir=tree.parent, prefix=".check-") as folder:
        env = {"MPLCONFIGDIR": folder}  # matplotlib writes there when it is imported
        run_tool(check, progress=progress, source="the software release", env=env)


def _install_programs(tree: Path, progress: Progress) -> None:
    folder = tree / PROGRAM_FOLDER
    remove_tree(folder)
    ensure_folder(folder)
    for name in PROGRAMS:
        shutil.copyfile(_source(name), folder / f"{name}.py")
        _write_wrapper(tree, name, program=f'"$root/{PROGRAM_FOLDER}/{name}.py" ', what=name)
    progress(f"integrating multiparton interactions at {ENERGY_TEV} TeV")
    prepare = [str(tree / "bin/evgen"), "--prepare", str(folder / "grids")]
    run_tool(prepare, progress=progress, source="evgen", deadline_s=120)
    _compile(tree, PROGRAM_FOLDER, progress)
    for name in _CATALOGS:
        (tree / name / ".cvmfscatalog").touch()


def _compile(tree: Path, folder: str, progress: Progress) -> None:
    """Bytecode that names the files as readers will know them, not as the builder did."""
    python = [str(tree / "bin/python3")]
    named = ["-s", str(tree), "-p", f"/cvmfs/{REPOSITORY}"]
    compile_bytecode(python, [str(tree / folder)], progress=progress, options=named)


def _write_wrapper(tree: Path, name: str, *, program: str, what: str) -> None:
    target = ensure_folder(tree / "bin") / name
    target.unlink(missing_ok=True)
    target.write_text(_WRAPPER.format(what=what, program=program, site_packages=SITE_PACKAGES))
    target.chmod(0o755)


def _source(name: str) -> Path:
    return Path(str(files("cernvm.box.release").joinpath(f"{name}.py")))

"""The tree that the client is measured on: Debian's Python 3.11 with its tests, compiled, and NumPy.

Usage: python bench/tree.py FOLDER

FOLDER/sw gets the tree (some 200 MB), FOLDER/numpy.cmd the words of a command that imports NumPy from it, relative to
wherever the tree is mounted. Nothing is done when the tree is there already. Needs apt-get, dpkg-deb and pip.
"""

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "python3.11",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libpython3.11-testsuite",
)
NUMPY = "numpy==1.26.4"
PYTHON = "sw/python/usr/bin/python3.11"
SITE = "sw/python/usr/lib/python3.11/site-packages"


def make_tree(folder):
    """The folder that holds `sw`, made if need be."""
    done = folder / "complete"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "debs").mkdir(parents=True)
    (folder / "sw/python").mkdir(parents=True)
    subprocess.run(
        ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *PACKAGES],
        cwd=folder / "debs",
        check=True,
    )
    for package in sorted((folder / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder / "sw/python"], check=True)
    shutil.rmtree(folder / "debs")
    shutil.rmtree(folder / "sw/python/usr/share", ignore_errors=True)
    # What Debian links to elsewhere on the system would lead out of the tree.
    for link in (folder / "sw").rglob("*"):
        if link.is_symlink() and not link.resolve().is_relative_to(folder.resolve()):
            link.unlink()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:",
         "--target", folder / SITE, NUMPY],
        check=True,
    )  # fmt: skip
    compileall.compile_dir(folder / "sw", quiet=2, workers=2)
    done.touch()
    return folder


def numpy_command(point):
    """A command that imports NumPy from the tree at `point`, as a program run from there would."""
    return [
        str(Path(point, PYTHON)), "-I", "-B", "-S",
        "-c", f"import sys; sys.path.append({str(Path(point, SITE))!r}); import numpy",
    ]  # fmt: skip


if __name__ == "__main__":
    made = make_tree(Path(sys.argv[1]).absolute())
    files = [path for path in (made / "sw").rglob("*") if path.is_file() and not path.is_symlink()]
    print(
        f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB in {made}"
    )

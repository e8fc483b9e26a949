"""Zips, wheels, conda packages and images, against what unzip, pip and others make of them."""

import base64
import bz2
import csv
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile

import pytest
import zstandard

from cernvm.core.errors import DigestMismatchError, InvalidInputError
from cernvm.fs.publish.ingest import Format, Ingestion, ingest
from cernvm.fs.publish.ingest.conda import shorten_shebang
from cernvm.fs.publish.publishing import Options

from .conftest import read_back


def published(repository, store, archive, at="/x", **how):
    ingest(repository, store, archive, Ingestion(**how), options=Options(at=at))
    found, _ = read_back(repository, store)
    return {
        path[len(at) :]: one for path, one in found.items() if path.startswith(at.encode() + b"/")
    }


def files_below(folder):
    top = os.fsencode(folder)
    return {
        os.path.join(where, name)[len(top) :] for where, _, names in os.walk(top) for name in names
    }


def test_a_zip_is_published_with_modes_times_and_links(repository, store, tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        script = zipfile.ZipInfo("top/bin/run", (2020, 2, 3, 4, 5, 6))
        script.create_system, script.external_attr = 3, (stat.S_IFREG | 0o755) << 16
        made.writestr(script, b"#!/bin/sh\n" * 1000)
        link = zipfile.ZipInfo("top/link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, b"bin/run")
        made.writestr("top/größe", b"utf-8")
        made.writestr("top/large", os.urandom(1 << 20) * 6, zipfile.ZIP_STORED)
        made.mkdir("top/empty") if hasattr(made, "mkdir") else made.writestr("top/empty/", b"")

    found = published(repository, store, archive, strip=1)

    assert found[b"/bin/run"][0].mode == stat.S_IFREG | 0o755
    assert found[b"/bin/run"][0].mtime_s == 1580702706
    assert found[b"/bin/run"][1] == b"#!/bin/sh\n" * 1000
    assert found[b"/link"][0].symlink == b"bin/run"
    assert found["/größe".encode()][1] == b"utf-8"
    assert found[b"/large"][1] == zipfile.ZipFile(archive).read("top/large")
    assert found[b"/empty"][0].is_directory


WHEEL = (
    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: cp311-cp311-linux_x86_64\n"
)
ENTRY_POINTS = "[console_scripts]\ngreet = greeting.core:Main.run\n"


@pytest.fixture
def wheel(tmp_path):
    """A wheel with everything that one may hold."""
    return make_wheel(
        tmp_path / "greeting-1.0-cp311-cp311-linux_x86_64.whl",
        {
            "greeting/__init__.py": b"",
            "greeting/core.py": b"class Main:\n    def run():\n        print('hello')\n        return 3\n",
            "greeting-1.0.data/scripts/old": b"#!python\nprint('old')\n",
            "greeting-1.0.data/data/share/greeting.txt": b"data\n",
            "greeting-1.0.data/platlib/greeting_native.so": b"\x7fELF" * 100,
            "greeting-1.0.data/headers/greeting.h": b"int x;\n",
            "greeting-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
            "greeting-1.0.dist-info/WHEEL": WHEEL.encode(),
            "greeting-1.0.dist-info/entry_points.txt": ENTRY_POINTS.encode(),
        },
    )


def make_wheel(path, files, *, lie=""):
    rows = [
        (name, f"sha256={digest_of(data if name != lie else b'other')}", len(data))
        for name, data in files.items()
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [*rows, ("greeting-1.0.dist-info/RECORD", "", "")]
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
        made.writestr("greeting-1.0.dist-info/RECORD", text.getvalue())
    return path


def digest_of(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def test_a_wheel_is_laid_out_as_pip_does(repository, store, wheel, tmp_path):
    prefix = tmp_path / "prefix"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--no-index"),
            *("--quiet", "--ignore-installed", "--prefix", prefix, wheel),
        ],
        check=True,
        timeout=60,
    )

    found = published(repository, store, wheel, python="3.11", interpreter="/usr/bin/python3.11")

    theirs = files_below(prefix)
    site = b"/lib/python3.11/site-packages/"
    info = site + b"greeting-1.0.dist-info/"
    headers = {path for path in theirs if path.endswith(b"greeting.h")}
    ours = {path for path, (entry, _) in found.items() if not entry.is_directory}
    assert ours - {b"/include/python3.11/greeting/greeting.h"} == theirs - headers - {
        info + b"REQUESTED",
        info + b"direct_url.json",
    }
    for path in ours & theirs - {info + b"RECORD", info + b"INSTALLER"}:
        if not path.startswith(b"/bin/"):
            assert found[path][1] == (prefix / os.fsdecode(path[1:])).read_bytes()
    assert found[b"/bin/old"][1] == b"#!/usr/bin/python3.11\nprint('old')\n"
    assert found[b"/bin/greet"][0].mode == stat.S_IFREG | 0o755
    record = list(csv.reader(io.StringIO(found[info + b"RECORD"][1].decode())))
    assert {row[0] for row in record} == {os.path.relpath(path, site).decode() for path in ours}
    for name, recorded, size in record:
        if recorded:
            data = found[os.path.normpath(site + name.encode())][1]
            assert (recorded, int(size)) == (f"sha256={digest_of(data)}", len(data))


def test_a_wheels_script_runs(repository, store, wheel, tmp_path):
    found = published(repository, store, wheel, interpreter=sys.executable)
    for path, (entry, content) in found.items():
        place = tmp_path / "out" / os.fsdecode(path[1:])
        if content is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(entry.mode & 0o777)

    ran = subprocess.run(
        [tmp_path / "out/bin/greet"],
        env={"PYTHONPATH": str(tmp_path / "out/lib/python3.11/site-packages")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ran.stdout, ran.returncode) == ("hello\n", 3)


def test_a_wheel_that_differs_from_its_record_is_refused(repository, store, tmp_path):
    files = {
        "greeting/__init__.py": b"changed",
        "greeting-1.0.dist-info/WHEEL": WHEEL.encode(),
    }
    wheel = make_wheel(
        tmp_path / "greeting-1.0-py3-none-any.whl", files, lie="greeting/__init__.py"
    )

    with pytest.raises(InvalidInputError, match="__init__.py' differs from the wheel's RECORD"):
        published(repository, store, wheel)


def layer_of(*members):
    """A tar of (name, content): bytes for files, None for folders, text for symbolic and (text,) for hard links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif isinstance(content, tuple):
                info.type, info.linkname = tarfile.LNKTYPE, content[0]
            else:
                info.size = len(content)
            made.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return stream.getvalue()


class Layout:
    """An OCI layout that is being written."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data, kind="tar", **more):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data), **more}

    def image(self, *layers, **more):
        config = self.blob({"architecture": "amd64", "os": "linux", "config": {"Env": ["A=1"]}})
        manifest = {"schemaVersion": 2, "config": config, "layers": [*map(self.blob, layers)]}
        return self.blob(manifest, "manifest", **more)

    def index(self, *manifests):
        (self.folder / "index.json").write_text(json.dumps({"manifests": manifests}))
        return self.folder


LOWER = layer_of(
    ("etc", None),
    ("etc/passwd", b"root"),
    ("etc/gone", b"gone"),
    ("opt", None),
    ("opt/old", b"old"),
    ("opt/deep", None),
    ("opt/deep/file", b"deep"),
    ("usr", None),
    ("usr/bin", None),
    ("usr/bin/tool", b"tool"),
    ("usr/bin/before", b"renamed"),
    ("bin", "usr/bin"),
    ("var", None),
    ("var/log", b"a file that becomes a folder"),
    ("srv", None),
    ("srv/data", b"a folder that becomes a file"),
)
UPPER = layer_of(
    ("etc/.wh.gone", b""),
    ("opt", None),
    ("opt/new", b"new"),
    ("opt/.wh..wh..opq", b""),  # after what it must not hide
    ("opt/deep", None),
    ("usr/bin/other", ("usr/bin/tool",)),
    ("usr/bin/after", ("usr/bin/before",)),
    ("usr/bin/.wh.before", b""),
    ("var/log", None),
    ("var/log/new", b"log"),
    ("srv", b"file"),
    (".wh..wh.plnk", b""),
)


def contents(found):
    return {
        path: entry.symlink or content
        for path, (entry, content) in found.items()
        if path != b"/.oci-config.json"
    }


IMAGE = {
    b"/etc": None,
    b"/etc/passwd": b"root",
    b"/opt": None,
    b"/opt/new": b"new",
    b"/opt/deep": None,
    b"/usr": None,
    b"/usr/bin": None,
    b"/usr/bin/tool": b"tool",
    b"/usr/bin/other": b"tool",
    b"/usr/bin/after": b"renamed",
    b"/bin": b"usr/bin",
    b"/var": None,
    b"/var/log": None,
    b"/var/log/new": b"log",
    b"/srv": b"file",
}


def test_an_images_layers_are_placed_one_over_the_other(repository, store, tmp_path):
    layout = Layout(tmp_path / "layout")
    folder = layout.index(layout.image(LOWER, gzip.compress(UPPER)))

    found = published(repository, store, folder)

    assert contents(found) == IMAGE
    assert json.loads(found[b"/.oci-config.json"][1])["config"] == {"Env": ["A=1"]}
    tool, other = (found[b"/usr/bin/" + name][0] for name in (b"tool", b"other"))
    assert tool.hardlink_group == other.hardlink_group != 0


def test_a_deep_folder_is_cleared_of_what_lay_below_it_before(repository, store, tmp_path):
    deep = "d/" * 600
    layout = Layout(tmp_path / "layout")
    lower = layer_of((f"{deep}old", b"old"), ("d/old", b"old"))
    upper = layer_of((f"{deep}new", b"new"), (".wh..wh..opq", b""))

    found = published(repository, store, layout.index(layout.image(lower, upper)))

    files = {path: content for path, content in contents(found).items() if content}
    assert files == {b"/" + deep.encode() + b"new": b"new"}


def test_an_image_is_read_from_a_tar_of_its_layout(repository, store, tmp_path):
    layout = Layout(tmp_path / "layout")
    folder = layout.index(layout.image(gzip.compress(LOWER), UPPER))
    subprocess.run(["tar", "-C", folder, "-cf", tmp_path / "i.tar", "."], check=True, timeout=60)

    found = published(repository, store, tmp_path / "i.tar", format=Format.OCI)

    assert contents(found) == IMAGE


def test_one_of_several_images_is_chosen(repository, store, tmp_path):
    layout = Layout(tmp_path / "layout")
    here, there = ({"platform": {"os": "linux", "architecture": one}} for one in ("amd64", "arm64"))
    names = [{"annotations": {"org.opencontainers.image.ref.name": one}} for one in ("v1", "v2")]
    both = layout.blob(
        {
            "manifests": [
                layout.image(layer_of(("amd64", b"")), **here),
                layout.image(layer_of(("arm64", b"")), **there),
            ]
        }
    )
    folder = layout.index(layout.image(layer_of(("first", b"")), **names[0]), {**both, **names[1]})

    with pytest.raises(InvalidInputError, match="2 images"):
        published(repository, store, folder)
    assert b"/first" in published(repository, store, folder, "/a", image="v1")
    chosen = published(repository, store, folder, "/b", image="v2", platform="linux/arm64")
    assert b"/arm64" in chosen


def test_a_blob_that_differs_from_its_digest_is_refused(repository, store, tmp_path):
    layout = Layout(tmp_path / "layout")
    folder = layout.index(layout.image(LOWER, UPPER))
    blob = folder / "blobs/sha256" / hashlib.sha256(UPPER).hexdigest()
    blob.write_bytes(UPPER.replace(b"new", b"bad"))

    with pytest.raises(DigestMismatchError):
        published(repository, store, folder)
    assert list(read_back(repository, store)[0]) == [b""]


BUILT_AT = "/build/" + "placehold_" * 20


def make_conda(folder, *, noarch=False):
    """The contents of a small package: (info, pkg) as members of tars."""
    index = {"name": "greeting", "version": "1.0", "build": "0", "depends": []}
    if noarch:
        index["noarch"] = "python"
    files = {
        "bin/run": f"#!{BUILT_AT}/bin/python\nprint('{BUILT_AT}/share')\n".encode(),
        "lib/libgreeting.so": b"\x7fELF" + BUILT_AT.encode() + b"/share\0" + b"tail" + bytes(300),
        "site-packages/greeting/core.py": b"def run():\n    return 0\n",
    }
    modes = {"bin/run": "text", "lib/libgreeting.so": "binary"}
    paths = [
        {"_path": name, "path_type": "hardlink"}
        | ({"prefix_placeholder": BUILT_AT, "file_mode": modes[name]} if name in modes else {})
        for name in files
    ]
    link = {"noarch": {"type": "python", "entry_points": ["greet = greeting.core:run"]}}
    info = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
    }
    if noarch:
        info["info/link.json"] = json.dumps(link).encode()
    return list(info.items()), list(files.items())


@pytest.mark.parametrize("kind", ["conda", "tar.bz2"])
def test_a_conda_package_knows_where_its_clients_see_it(repository, store, tmp_path, kind):
    info, pkg = make_conda(tmp_path)
    archive = tmp_path / f"greeting-1.0-0.{kind}"
    if kind == "conda":
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
            for name, members in (("pkg", pkg), ("info", info)):
                packed = zstandard.compress(layer_of(*members))
                made.writestr(f"{name}-greeting-1.0-0.tar.zst", packed)
    else:
        archive.write_bytes(bz2.compress(layer_of(*pkg, *info)))

    found = published(repository, store, archive, "/env", format=Format.CONDA)

    prefix = b"/cvmfs/t.cernvm.test/env"
    script = b"#!" + prefix + b"/bin/python\nprint('" + prefix + b"/share')\n"
    assert found[b"/bin/run"][1] == script
    library = found[b"/lib/libgreeting.so"][1]
    assert len(library) == len(dict(pkg)["lib/libgreeting.so"])
    assert library.startswith(b"\x7fELF" + prefix + b"/share\0")
    assert library.endswith(b"\0tail" + bytes(300))
    record = json.loads(found[b"/conda-meta/greeting-1.0-0.json"][1])
    assert record["files"] == sorted(dict(pkg))
    assert not any(path.startswith(b"/info") for path in found)


def test_a_python_package_for_all_machines_gets_its_place_and_scripts(repository, store, tmp_path):
    info, pkg = make_conda(tmp_path, noarch=True)
    archive = tmp_path / "a.tar.bz2"
    archive.write_bytes(bz2.compress(layer_of(*info, *pkg)))

    found = published(repository, store, archive, "/env", format=Format.CONDA, python="3.12")

    assert b"/lib/python3.12/site-packages/greeting/core.py" in found
    assert found[b"/bin/greet"][1].startswith(b"#!/cvmfs/t.cernvm.test/env/bin/python3.12\n")
    assert found[b"/bin/greet"][0].mode == stat.S_IFREG | 0o755


def test_a_prefix_that_does_not_fit_is_refused_by_name(repository, store, tmp_path):
    info, pkg = make_conda(tmp_path)
    archive = tmp_path / "a.tar.bz2"
    archive.write_bytes(bz2.compress(layer_of(*info, *pkg)))

    with pytest.raises(InvalidInputError, match="libgreeting.so' has room for a folder of"):
        published(repository, store, archive, "/env" + "/long" * 50, format=Format.CONDA)


def test_a_shebang_that_the_kernel_cannot_read_goes_by_env():
    assert shorten_shebang(b"#!/a/python -s\nx") == b"#!/a/python -s\nx"
    long = b"#!/" + b"a" * 130 + b"/python3 -s\nx"
    assert shorten_shebang(long) == b"#!/usr/bin/env python3 -s\nx"


def test_a_folder_that_is_no_image_is_to_be_published(repository, store, tmp_path):
    with pytest.raises(InvalidInputError, match="no image layout") as caught:
        published(repository, store, tmp_path)
    assert "cvm repo publish" in caught.value.advice

"""Where templates lie: files `NAME.tpl` in the folders of a search path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cernvm.context.finding import did_you_mean
from cernvm.context.template import render
from cernvm.core.errors import ContextFormatError, NotFoundError
from cernvm.core.home import Home

MAX_TEMPLATE_BYTES = 1 << 20
_SUFFIX = ".tpl"


def render_template(
    name: str,
    variables: Mapping[str, str],
    *,
    search_path: Sequence[Path],
    lenient: bool = False,
) -> str:
    """The user-data that the template `name` gives with these variables.

    Errors: `NotFoundError` naming the folders searched; `ContextFormatError` naming file and line.
    """
    path = find_template(name, search_path)
    return render(read_template(path), variables, lenient=lenient, where=path.name)


def find_template(name: str, search_path: Sequence[Path]) -> Path:
    """The first file `NAME.tpl` or `NAME` on the path; a name with a `/` is itself a path.

    Errors: `NotFoundError` naming the folders searched.
    """
    folders = [Path()] if "/" in name else list(search_path)
    for folder in folders:
        for candidate in (folder / f"{name}{_SUFFIX}", folder / name):
            if name and candidate.is_file():
                return candidate
    places = ", ".join(str(folder) for folder in search_path) or "nowhere"
    near = did_you_mean(name, list_templates(search_path)) if "/" not in name else ""
    hint = f"{near} Or " if near else ""
    raise NotFoundError(
        "template",
        name,
        advice=f"{hint}put {Path(name).name or 'NAME'}{_SUFFIX} into one of: {places}; "
        "`cvm context ls` shows what is there",
    )


def read_template(path: Path) -> str:
    """A template's text. Errors: `ContextFormatError` when it is too large or not UTF-8."""
    with path.open("rb") as file:
        raw = file.read(MAX_TEMPLATE_BYTES + 1)
    if len(raw) > MAX_TEMPLATE_BYTES:
        raise ContextFormatError(f"larger than {MAX_TEMPLATE_BYTES} bytes", where=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ContextFormatError("not UTF-8 text", where=str(path), line=line) from None


def list_templates(search_path: Sequence[Path]) -> dict[str, Path]:
    """Every template that `find_template` would find by its name without the suffix, sorted by name."""
    found: dict[str, Path] = {}
    for folder in search_path:
        if folder.is_dir():
            for path in sorted(folder.glob(f"*{_SUFFIX}")):
                if path.is_file():
                    found.setdefault(path.name.removesuffix(_SUFFIX), path)
    return dict(sorted(found.items()))


def search_path(environment: Mapping[str, str], home: Home) -> tuple[Path, ...]:
    """Where a user's templates are: `$CVM_TEMPLATE_PATH`, the working folder, `$CVM_HOME/templates`, `~/.cvm`."""
    named = [Path(part) for part in environment.get("CVM_TEMPLATE_PATH", "").split(":") if part]
    user = Path(environment.get("HOME", "/")) / ".cvm"
    return (*named, Path(), home.templates, user)

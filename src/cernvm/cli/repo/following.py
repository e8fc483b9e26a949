"""What follows each change of a repository, whichever command made it: what it did, warnings, garbage."""

from __future__ import annotations

import click

from cernvm.cli.repo.shown import print_published, warn_of_whitelist
from cernvm.core.errors import CvmError
from cernvm.core.home import Home
from cernvm.fs.publish.publishing import Published
from cernvm.fs.publish.repository import Repository, open_storage


def tell_published(
    home: Home, repository: Repository, published: Published, *, as_json: bool
) -> None:
    """Print what a publication did; then what follows it."""
    print_published(published, as_json=as_json)
    follow_up(home, repository, has_changed=published.is_new)


def follow_up(home: Home, repository: Repository, *, has_changed: bool = True) -> None:
    """Say on stderr that the whitelist runs out; collect garbage, if the settings want that and it is due.

    What was published stands: a collection that fails is only told.
    """
    warn_of_whitelist(repository, open_storage(repository))
    if not (has_changed and repository.settings.auto_gc):
        return
    from cernvm.cli.repo.collecting import collect_if_due  # noqa: PLC0415  # few want it

    try:
        collect_if_due(home, repository)
    except CvmError as error:
        click.echo(f"cvm: no garbage was collected: {error}", err=True)

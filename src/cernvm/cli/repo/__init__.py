"""`cvm repo`: everything about repositories on the server's side."""

from __future__ import annotations

import click

from cernvm.cli.lazy import LazyGroup, Words

WORDS: Words = {
    "Publish": {
        "create": ("cernvm.cli.repo.making:create", "Make a repository."),
        "adopt": ("cernvm.cli.repo.adopting:adopt", "Go on with another publisher's repository."),
        "release": ("cernvm.cli.repo.adopting:release", "Leave a repository to another publisher."),
        "publish": ("cernvm.cli.repo.publishing:publish", "Publish a folder in a new revision."),
        "edit": ("cernvm.cli.repo.editing:edit", "Change a repository in a shell."),
        "transaction": ("cernvm.cli.repo.editing:transaction", "Change it by several commands."),
        "abort": ("cernvm.cli.repo.editing:abort", "Drop what a transaction has changed."),
        "copy": ("cernvm.cli.repo.editing:copy", "Copy a folder inside a repository."),
        "ingest": ("cernvm.cli.repo.ingesting:ingest_", "Publish what an archive holds."),
        "watch": ("cernvm.cli.repo.watching:watch", "Publish a folder whenever it changes."),
        "graft": ("cernvm.cli.repo.grafting:graft", "Publish a file without its data."),
        "profile": ("cernvm.cli.repo.profile:profile", "Record what programs read first."),
    },
    "Look": {
        "ls": ("cernvm.cli.repo.making:list_repositories", "List the repositories."),
        "info": ("cernvm.cli.repo.making:info", "Show a repository."),
        "revisions": ("cernvm.cli.repo.revisions:revisions", "List the revisions that are there."),
        "diff": ("cernvm.cli.repo.diffing:diff_", "Show what differs between two revisions."),
        "catalogs": ("cernvm.cli.repo.catalogs:catalogs", "Show a revision's catalogs."),
        "check": ("cernvm.cli.repo.checking:check_", "Tell what is wrong with a repository."),
        "tags": ("cernvm.cli.repo.tags:tags", "List a repository's tags."),
    },
    "Keep": {
        "settings": ("cernvm.cli.repo.settling:settings", "Choose how a repository is published."),
        "meta": ("cernvm.cli.repo.metainfo:meta", "Say who keeps a repository, and why."),
        "hooks": ("cernvm.cli.repo.settling:hooks", "List what runs around a publication."),
        "tag": ("cernvm.cli.repo.tags:tag", "Name revisions."),
        "rollback": ("cernvm.cli.repo.rolling_back:rollback", "Publish again what once was."),
        "gc": ("cernvm.cli.repo.collecting:gc", "Delete what no kept revision needs."),
        "resign": ("cernvm.cli.repo.signing:resign", "Sign a new whitelist."),
        "keys": ("cernvm.cli.repo.signing:keys", "Show, rotate and revoke certificates."),
        "remove": ("cernvm.cli.repo.making:remove", "Delete a repository."),
    },
    "Replicate": {
        "replicate": ("cernvm.cli.repo.replicating:replicate_", "Copy a repository; copy what is new."),
        "export": ("cernvm.cli.repo.exporting:export_", "Write a revision, or a difference, as a file."),
        "import": ("cernvm.cli.repo.exporting:import_", "Take such a file into a replica."),
        "replicable": ("cernvm.cli.repo.replicating:replicable", "Let the original's stratum 1 copy it."),
    },
    "Serve": {
        "serve": ("cernvm.cli.repo.serving:serve", "Export repositories over HTTP."),
        "pass-through": ("cernvm.cli.repo.passing:pass_through", "Serve what is fetched on demand."),
        "gateway": ("cernvm.cli.repo.gateway:gateway", "Let several publishers work on one."),
    },
}  # fmt: skip


@click.group(cls=LazyGroup, words=WORDS, epilog="Example: cvm repo create sft.cernvm.test")
def repo() -> None:
    """Create, publish, keep, serve and replicate CernVM-FS repositories."""

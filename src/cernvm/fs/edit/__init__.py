"""Changing a repository as one changes a folder: a writable `/cvmfs/NAME`, then its changes are published or dropped.

A transaction (`fs/publish/transaction.py`) says which revision is being changed. Flow: `opening` makes or resumes one →
`session` runs a command in a namespace of its own, where `underlay` mounts that revision and `overlay` lays a writable
folder over it (`hosting`, as root: for the whole machine) → `upper` reads what the command did → `comparing` says what
of it is a change → `publishing` makes it the next revision, through a gateway where the repository has one. `copying`
copies a subtree without a transaction.
"""

"""A mounted repository: the reader's view, served to the kernel, followed, recorded, and open to questions.

Flow: `mount_repository` (`mounting.py`) opens the repository, attaches it by `fs/fuse` and serves it until it is
unmounted; `view_operations.py` turns the view's errors into errno (`errno_of.py`); `follow.py` brings new revisions;
`record.py` writes what others need to find the mount; `control.py` answers their questions.
"""

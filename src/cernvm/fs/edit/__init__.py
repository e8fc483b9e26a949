"""Changing a repository as one changes a folder: a writable `/cvmfs/NAME`, then its changes are published or dropped.

Flow: mount of the last revision below, a folder above (overlay, in a user namespace) → the upper folder read as
changes → `publish`.
"""

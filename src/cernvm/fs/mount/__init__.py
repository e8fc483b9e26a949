"""A mounted repository: vfs over fuse, errno table, control socket."""

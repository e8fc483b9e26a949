"""The kernel's FUSE protocol over /dev/fuse; knows nothing of repositories."""

"""What a repository looks like as a file system: inodes, attributes, directories, reads."""

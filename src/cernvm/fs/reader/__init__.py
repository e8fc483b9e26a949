"""Reading a repository: trust, revision, catalogs, content."""

"""Writing a repository: create, publish, serve."""

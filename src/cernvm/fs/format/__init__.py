"""The bytes of a repository: manifest, whitelist, catalogs, chunks; pure, bytes and values in, values out."""

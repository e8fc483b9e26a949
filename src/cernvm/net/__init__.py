"""Fetching over HTTP through chains of proxies and mirrors."""

"""Contexts: user-data and templates; parse, check, render."""

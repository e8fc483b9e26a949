"""Where outputs go: put, get, stat, checksum."""

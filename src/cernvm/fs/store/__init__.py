"""Where a publisher keeps objects: the port and its adapters."""

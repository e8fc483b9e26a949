"""One port, one driver per cloud API."""

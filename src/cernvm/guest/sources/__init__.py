"""Where an instance finds its context: one port, a source per cloud's way, tried in order by `search`."""

"""The Geo-API: which of several servers are near to whoever asks.

Values: `GeoQuery` (`query.py`, what is asked; the order, given distances). `atlas.py` knows where hosts are: from a
GeoIP database where one is given, else by measured round trips to the servers that this machine knows. `answering.py`
joins both.
"""

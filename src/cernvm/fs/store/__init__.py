"""Where a publisher keeps objects: named bytes that appear whole or not at all.

`port` says what a store must do, `opening` opens one by its location, `local` does it in a folder that any web server
exports, `memory` is the twin.
"""

"""The command `cvm`: one module per word, which parses arguments, calls one room and prints what it returns.

Read `main` (the map of commands), `output` (tables and JSON), `exit` (errors to exit codes). No logic lives here.
"""

"""Contexts: a few lines of user-data that turn one generic image into a role.

Values: a template's text; `UserData` (what is written, line by line); `Context` (what it means, typed and checked);
`Finding` (what is wrong or worth saying about a line).
Flow: `library` finds a template, `template` renders it, `encoding` unwraps bytes to text, `userdata` takes the text
apart, `schema` says which keys there are, `kinds` what their values look like, `reading` turns all this into a
`Context` or the findings that forbid one.
All of it is pure but `library`, which reads template files, and `schema`, which reads its own.
"""

from cernvm.context.library import find_template, list_templates, render_template, search_path
from cernvm.context.reading import Context, PilotAccess, Reading, read_context
from cernvm.context.template import render, variables_of

__all__ = [
    "Context",
    "PilotAccess",
    "Reading",
    "find_template",
    "list_templates",
    "read_context",
    "render",
    "render_template",
    "search_path",
    "variables_of",
]

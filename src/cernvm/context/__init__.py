"""Contexts: a few lines of user-data that turn one generic image into a role.

Values: a template's text; `UserData` (what is written, line by line); `Context` (what it means, typed and checked);
`Finding` (what is wrong or worth saying about a line).
Flow: `library` finds a template, `template` renders it, `encoding` unwraps bytes to text, `userdata` takes the text
apart, `schema` says which keys there are, `reading` turns the two into a `Context`, `check` explains every line.
All of it is pure but `library`, which reads template files.
"""

from cernvm.context.library import find_template, list_templates, render_template, search_path
from cernvm.context.template import render, variables_of

__all__ = [
    "find_template",
    "list_templates",
    "render",
    "render_template",
    "search_path",
    "variables_of",
]

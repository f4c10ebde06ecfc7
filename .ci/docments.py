"Comments after parameters and fields become tables of the API page: an extension of griffe (see mkdocs.yml)."

import re

from griffe import Docstring, Extension

COMMENTED = re.compile(r"\s*(\*{0,2}\w+)\b.*?  # (.+)")  # as ruff lays out `name=default,  # what it is`


def comments(lines):
    "Name -> comment of each line that begins with a name."
    return {m[1]: m[2] for line in lines if (m := COMMENTED.fullmatch(line.rstrip()))}


def add_section(obj, title, found):
    "Append a section in Google's layout to the docstring."
    if not found:
        return
    text = obj.docstring.value if obj.docstring else ""
    rows = "\n".join(f"    {name}: {comment}" for name, comment in found.items())
    obj.docstring = Docstring(f"{text}\n\n{title}:\n{rows}", parent=obj, parser="google")


class Docments(Extension):
    def on_function(self, *, func, **_):
        said = comments(func.lines)
        names = {p.name for p in func.parameters}
        add_section(func, "Args", {n: comment for n, comment in said.items() if n.lstrip("*") in names})

    def on_class(self, *, cls, **_):
        fields = [n for n, a in cls.attributes.items() if not n.startswith("_") and a.annotation]
        said = {n: comments(cls.attributes[n].lines).get(n) for n in fields if cls.attributes[n].lineno}
        add_section(cls, "Attributes", {n: comment for n, comment in said.items() if comment})

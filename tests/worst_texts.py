"""The texts that cost a regular expression most: 100,000 characters that its repeats take, then no match."""

import ast, importlib, re
from pathlib import Path
from re import _constants as sre, _parser

N = 100_000
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
HEAVY = ("globe.app", "globe.models", "globe.training.", "globe.world", "globe.pipeline", "globe.figures")
CLASSES = {
    sre.CATEGORY_DIGIT: str.isdigit,
    sre.CATEGORY_NOT_DIGIT: lambda c: not c.isdigit(),
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_NOT_SPACE: lambda c: not c.isspace(),
    sre.CATEGORY_WORD: lambda c: c.isalnum() or c == "_",
    sre.CATEGORY_NOT_WORD: lambda c: not (c.isalnum() or c == "_"),
}


def written(path, kind=str):
    "Patterns that stand in the calls of a module, as texts or as bytes."
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args:
            pattern = node.args[0]
            if isinstance(pattern, ast.Constant) and isinstance(pattern.value, kind):
                said = ast.unparse(node)
                verbose, dotall = (re.search(rf"re\.({flag})\b", said) for flag in ("X|VERBOSE", "S|DOTALL"))
                yield pattern.value, (re.VERBOSE if verbose else 0) | (re.DOTALL if dotall else 0)


def compiled(module):
    "Patterns that a module holds when it is imported, within its tables too."
    waiting = list(vars(importlib.import_module(module)).values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
            yield value.pattern, value.flags & ~re.UNICODE
        elif isinstance(value, dict) and len(value) < 300:
            waiting += value.values()
        elif isinstance(value, (list, tuple)) and len(value) < 300:
            waiting += value


def patterns():
    "(pattern, flags) -> module, for the whole package."
    import globe

    root, found = Path(globe.__file__).parent, {}
    for path in sorted(root.rglob("*.py")):
        parts = [part for part in path.relative_to(root).with_suffix("").parts if part != "__init__"]
        module = ".".join(("globe", *parts))
        light = not module.startswith(HEAVY) and parts != ["__main__"]
        for key in [*written(path), *(compiled(module) if light else ())]:
            found.setdefault(key, module)
    return found


def takes(item, char):
    "Whether an item of a character class takes a character."
    op, value = item
    if op is sre.RANGE:
        return value[0] <= ord(char) <= value[1]
    return char == chr(value) if op is sre.LITERAL else op is sre.CATEGORY and CLASSES[value](char)


def one_of(items):
    "A character of a class."
    negated = items[0][0] is sre.NEGATE
    first = [chr(v if op is sre.LITERAL else v[0]) for op, v in items if op in (sre.LITERAL, sre.RANGE)]
    for char in [*"a1 \n-\u00e9.,(A", *first, "漢"]:
        if any(takes(item, char) for item in items[negated:]) != negated:
            return char
    return "a"


def example(tree):
    "A text that a parsed pattern takes."
    text = ""
    for op, value in tree:
        if op is sre.LITERAL:
            text += chr(value)
        elif op in (sre.ANY, sre.NOT_LITERAL):
            text += "a" if value != ord("a") else "b"
        elif op is sre.IN:
            text += one_of(value)
        elif op in (sre.SUBPATTERN, sre.ATOMIC_GROUP):
            text += example(value[-1] if op is sre.SUBPATTERN else value)
        elif op is sre.BRANCH:
            text += example(value[1][0])
        elif op in REPEATS:
            text += example(value[2]) * min(value[0], 9)
    return text


def repeats(tree, before=""):
    "(what stands before, what is repeated) of every repeat in a parsed pattern without a small limit."
    for node in tree:
        op, value = node
        inner = []
        if op in REPEATS:
            inner = [value[2]]
            choices = [
                c
                for o, v in value[2]
                if o is sre.SUBPATTERN
                for p, w in v[-1]
                if p is sre.BRANCH
                for c in w[1]
            ]
            if value[1] > 10:
                yield from ((before, example(body)) for body in [value[2], *choices])
        elif op in (sre.SUBPATTERN, sre.ASSERT, sre.ASSERT_NOT):
            inner = [value[-1]]
        elif op is sre.BRANCH:
            inner = value[1]
        for part in inner:
            yield from repeats(part, before)
        before += example([node])


def worst_texts():
    "(module of the pattern, text), each text once."
    texts = {(unit, ""): "globe" for unit in (*" a1\nA\u00e9.-*<漢", "a ", "1,", "A. ", "\n ")}
    for (pattern, flags), module in patterns().items():
        tree = _parser.parse(pattern, flags)
        for before, unit in [*repeats(tree), ("", example(tree))]:
            if unit:
                texts.setdefault((unit, before[:500]), module)
    for (unit, before), module in texts.items():
        yield module, (before + unit * (N // len(unit)))[:N] + "\0"


def worst_bytes():
    "(pattern, bytes) of every pattern that is searched for in the bytes of a file."
    import globe

    for path in sorted(Path(globe.__file__).parent.rglob("*.py")):
        for pattern, flags in written(path, bytes):
            tree = _parser.parse(pattern, flags)
            for before, unit in [*repeats(tree), ("", example(tree)), ("", "\xff"), ("", "\0")]:
                text = before[:500] + unit * (N // max(1, len(unit)))
                yield re.compile(pattern, flags), text.encode("latin-1", "replace")[:N] + b"\0"

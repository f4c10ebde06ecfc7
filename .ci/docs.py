"""What the documentation site shows of the notebooks, called by mkdocs (see mkdocs.yml).

The copies in `_docs/src` are changed before they become pages: equations are MathML, which browsers draw
themselves, images have their alt texts, cells marked `#| hide` and nbdev's directives are left out, and the
paper's pages fold code and long tables."""

import json
import re
from html import escape
from pathlib import Path

from latex2mathml.converter import convert
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

# the prompts In [ ] and Out[ ] take a sixth of a phone's width and say nothing
STYLE = """<style>
.jp-InputPrompt, .jp-OutputPrompt, .celltag_parameters .jp-CellTags {display: none !important}
.jupyter-wrapper math[display=block] {margin: 1em 0; overflow-x: auto; overflow-y: hidden}
.jupyter-wrapper .jp-OutputArea-output > details {margin: 0; border-color: #8884; box-shadow: none}
.jupyter-wrapper details > summary {background: none}
.jupyter-wrapper details > summary::before {display: none}
.jupyter-wrapper .jp-OutputArea-output > details > summary {padding: .2em .6em; font-weight: 400}</style>"""
MERMAID = re.compile(
    r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL
)  # of nbconvert, from a CDN
MATH = re.compile(
    r"(?P<code>```.*?```|`[^`]*`)|(?<!\\)\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>.+?)\$", re.DOTALL
)
LONG = 20  # rows of a table that is folded


def with_mathml(text):
    "Markdown with its equations as MathML; code stays as it is."

    def mathml(found):
        if found["code"]:
            return found[0]
        tex = " ".join((found["block"] or found["inline"]).split())
        return convert(tex, display="block" if found["block"] else "inline").replace(r"\_", "_")

    return MATH.sub(mathml, text)


def html_output(html):
    return {"output_type": "display_data", "metadata": {}, "data": {"text/html": html}}


def folded(summary, html):
    return f"<details><summary>{summary}</summary>{html}</details>"


def output_shown(output, alt="", fold=False):
    "An image with its alt text, of its own or else `alt`; with `fold`, a long table behind one line."
    data = output.get("data", {})
    if "image/png" in data:
        alt = output["metadata"].get("image/png", {}).get("alt") or alt
        return html_output(
            f'<img alt="{escape(alt)}" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
        )
    html = "".join(data.get("text/html", ""))
    rows = html.count("<tr") - 1
    if fold and rows > LONG:
        return html_output(folded(f"Table ({rows} rows)", html))
    return output


def cells_shown(cells, fold=False):
    "The cells of a notebook as the site shows them; with `fold`, code is behind one line."
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] != "code":
            yield cell | {"source": with_mathml(text)}
            continue
        source = re.sub(r"^#\|.*\n?", "", text, flags=re.MULTILINE).strip()
        alt = re.search(r"^#\| fig-alt: (.+)", text, re.MULTILINE)
        outputs = [output_shown(o, alt[1] if alt else "", fold) for o in cell["outputs"]]
        if re.search(r"^#\| *hide\b", text, re.MULTILINE) or not (source or outputs):
            continue
        if fold and source:
            code = highlight(source, PythonLexer(), HtmlFormatter(cssclass="highlight-ipynb hl-python"))
            outputs.append(html_output(folded("Code", code)))
            cell = cell | {"metadata": {"tags": ["hide-input"]}}
        yield cell | {"source": source, "outputs": outputs}


def on_pre_build(config):
    for path in Path(config.docs_dir).rglob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"] = [*cells_shown(notebook["cells"], fold=path.parent.name == "paper")]
        path.write_text(json.dumps(notebook), encoding="utf-8")


def on_page_content(html, page, **_):
    if page.file.src_uri.endswith(".ipynb"):
        html = STYLE + MERMAID.sub("", html)
    html = re.sub(r'(href="(?!https?:)[^"#]*)\.(?:ipynb|md)(?=["#])', r"\1.html", html)
    return re.sub(r'(href="(?:\.\./)*)README\.html', r"\1index.html", html)  # the README is the start page

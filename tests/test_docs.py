"What the documentation site shows of a notebook; `make docs` builds the site itself and checks its links."

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import griffe
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
spec = importlib.util.spec_from_file_location("docs", ROOT / ".ci" / "docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)


def code(source, *outputs):
    return {
        "cell_type": "code",
        "metadata": {},
        "execution_count": None,
        "source": source,
        "outputs": [*outputs],
    }


def test_equations_become_mathml_and_code_stays():
    text = docs.with_mathml(
        "Share $\\frac{1}{|E|}$ of `$HOME`:\n\n$$p_0 -\n\\texttt{max\\_loss}$$\n\n```\n$x$\n```"
    )
    assert text.count('display="inline"') == text.count('display="block"') == text.count("<mfrac>") == 1
    assert "`$HOME`" in text and "```\n$x$\n```" in text and "max_loss" in text


def test_no_page_shows_raw_equations_or_directives():
    equations = 0
    for path in NOTEBOOKS:
        for cell in docs.cells_shown(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            shown = cell["source"]
            if cell["cell_type"] == "code":
                assert not re.search(r"^#\|", shown, re.MULTILINE), path
                continue
            found = re.findall(r"<math.*?</math>", shown)
            equations += len(found)
            assert "\\" not in "".join(found), f"{path}: a command that latex2mathml does not know"
            assert "$" not in docs.MATH.sub("", shown), f"{path}: an equation without an end"
    assert equations > 50


def test_hidden_cells_and_directives_are_left_out():
    cells = [
        code("#| default_exp a.b"),
        code("#| hide\nfrom fastcore.test import *"),
        code("#| export\n\nx = 1"),
    ]
    assert [cell["source"] for cell in docs.cells_shown(cells)] == ["x = 1"]


def test_images_have_their_alt_texts():
    data, described = {"image/png": "iVBO\n", "text/plain": ""}, {"image/png": {"alt": 'a "map"'}}
    image = {"output_type": "display_data", "data": data, "metadata": described}
    (cell,) = docs.cells_shown([code("plot()", image)])
    html = cell["outputs"][0]["data"]["text/html"]
    assert html == '<img alt="a &quot;map&quot;" src="data:image/png;base64,iVBO">'


def test_every_image_on_the_site_has_an_alt_text():
    "It comes from `save(figure, path, alt)`, or from a line `#| fig-alt: what the picture shows` in the cell."
    images = 0
    for path in NOTEBOOKS:
        for cell in docs.cells_shown(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            html = "".join("".join(o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", []))
            found = re.findall(r"<img\b[^>]*>", html)
            images += len(found)
            for tag in found:
                assert re.search(r"""alt=("[^"]|'[^'])""", tag), f"{path}: {tag[:80]} has no alt text"
    assert images > 50


def test_the_papers_pages_fold_code_and_long_tables():
    tables = ["<table>" + rows * "<tr></tr>" + "</table>" for rows in (docs.LONG + 1, docs.LONG + 2)]
    (cell,) = docs.cells_shown([code("x = 1", *map(docs.html_output, tables))], fold=True)
    short, long, source = ["".join(o["data"]["text/html"]) for o in cell["outputs"]]
    assert short == tables[0] and cell["source"] == "x = 1" and cell["metadata"]["tags"] == ["hide-input"]
    assert long.startswith(f"<details><summary>Table ({docs.LONG + 1} rows)") and "<summary>Code" in source


def test_a_page_loads_nothing_from_a_cdn(tmp_path):
    from mkdocs_jupyter.convert import nb2html

    path = tmp_path / "a.ipynb"
    text = {"cell_type": "markdown", "metadata": {}, "source": "[next](b.ipynb#c) $x^2$"}
    cells = [*docs.cells_shown([text, code("x = 1")])]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    page = SimpleNamespace(file=SimpleNamespace(src_uri="a.ipynb"))
    html = docs.on_page_content(nb2html(str(path), custom_mathjax_url=""), page)
    assert not re.findall(r"""(?:src|import|href)\W{1,2}https?://[^"')]*""", html)
    assert 'href="b.html#c"' in html and "<msup>" in html


# addresses in the theme's script, and when it uses them
ADDRESSES = {
    "api.github.com/repos": "`repo_url` is set",
    "api.github.com/users": "`repo_url` is set",
    "unpkg.com/mermaid": "a page has a Mermaid diagram",
    "unpkg.com/resize": "browsers of 2019 and older",
    "clipboardjs.com/": "a comment",
}


def test_the_site_loads_nothing_from_other_servers(tmp_path):
    "With the settings of the real site, one page. `repo_url` or a Mermaid diagram would make requests."
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "index.md").write_text("# Start\n\n[home](README.md)\n", encoding="utf-8")
    with open(ROOT / "mkdocs.yml", "rb") as f:
        config = load_config(
            f, docs_dir=str(tmp_path / "src"), site_dir=str(tmp_path / "site"), plugins=["search"], nav=None
        )
    build(config)
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(?:https?:)?//""", html)
    loading = r"""<link\b(?=[^>]*rel="?(?:stylesheet|icon|preload|preconnect))[^>]*href=["']?(?:https?:)?//"""
    assert not re.findall(loading, html) and 'href="index.html"' in html
    assert 'data-md-component="source"' not in html, "the theme asks GitHub about `repo_url`"
    (script,) = (tmp_path / "site" / "assets" / "javascripts").glob("bundle.*.js")
    addresses = re.findall(r"https?://([\w.-]+\.(?:com|org|io|net)/\w*)", script.read_text(encoding="utf-8"))
    assert addresses and set(addresses) <= set(ADDRESSES)
    assert not any("```mermaid" in p.read_text(encoding="utf-8") for p in [*NOTEBOOKS, *ROOT.glob("*.md")])


def test_comments_after_parameters_and_fields_become_sections():
    extensions = griffe.load_extensions(str(ROOT / ".ci" / "docments.py"))
    package = griffe.load("globe", search_paths=[str(ROOT)], extensions=extensions)

    def section(name, kind):
        (found,) = [s for s in package[name].docstring.parse("google") if s.kind.value == kind]
        return {item.name: item.description for item in found.value}

    init = section("app.locate.Geolocator.__init__", "parameters")
    assert init["temperature"] == "for sampling several answers"
    assert "**how" in section("app.locate.Geolocator.from_pretrained", "parameters")
    assert section("app.prediction.Prediction", "attributes")["thumbnail"] == "JPEG"

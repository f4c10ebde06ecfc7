"Links between notebooks lead to their pages, and figures have their alt texts. Called by mkdocs (see mkdocs.yml) for each page."

import json, re
from html import escape
from pathlib import Path

# the prompts In [ ] and Out[ ] take a sixth of a phone's width and say nothing
STYLE = "<style>.jp-InputPrompt, .jp-OutputPrompt, .celltag_parameters .jp-CellTags {display: none !important}</style>"
NO_ALT = 'alt="No description has been provided for this image"'  # of nbconvert


def alt_texts(notebook):
    "(beginning of the data, alt text) of each figure of a notebook that has one."
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:
            yield "".join(output["data"]["image/png"])[:400], alt


def on_page_content(html, page, **_):
    if page.file.src_uri.endswith(".ipynb"):
        for data, alt in alt_texts(page.file.abs_src_path):
            before, found, after = html.partition(data)
            if not found:
                continue
            start = before.rfind("<img")  # nbconvert writes the attribute alt before src
            tag = before[start:].replace(NO_ALT, f'alt="{escape(alt)}"')
            html = before[:start] + tag + found + after
        html = STYLE + html
    return re.sub(r'(href="(?!https?:)[^"#]*)\.(?:ipynb|md)(?=["#])', r"\1.html", html)

"Links between notebooks lead to their pages. Called by mkdocs (see mkdocs.yml) for each page."

import re


def on_page_content(html, **_):
    return re.sub(r'(href="(?!https?:)[^"#]*)\.(?:ipynb|md)(?=["#])', r"\1.html", html)

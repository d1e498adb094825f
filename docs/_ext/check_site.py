"""Whether a built site holds together: ``python docs/_ext/check_site.py docs/_build/html``.

Each link leads to a file, and to a place in it, that is there, and nothing that a page loads
comes from a network.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

_LOADED = {"script", "img", "iframe", "source"}
_NOT_A_PAGE = "webpack-macros.html"  # a template that the theme leaves behind


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.places, self.links = {"", "."}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        is_loaded = tag in _LOADED or (tag, attrs.get("rel")) == ("link", "stylesheet")
        self.links += [(attrs[a], is_loaded) for a in ("href", "src") if attrs.get(a)]


def faults(folder):
    """What is wrong with a site.

    Parameters
    ----------
    folder : path
        Of its HTML files.

    Returns
    -------
    list of str
        A line for each fault.
    """
    folder = Path(folder).resolve()
    paths = [path for path in sorted(folder.rglob("*.html")) if path.name != _NOT_A_PAGE]
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in paths}
    found = []
    for path, page in pages.items():
        for link, is_loaded in page.links:
            if fault := _fault_of(link, is_loaded, path, pages):
                found.append(f"{path.relative_to(folder)}: {link} {fault}")
    return found


def _fault_of(link, is_loaded, path, pages):
    if re.match(r"(\w+:)?//", link):
        return "is loaded from a network" if is_loaded else None
    if re.match(r"\w+:", link):
        return None
    name, _, place = link.partition("#")
    name = unquote(name.partition("?")[0])
    target = (path.parent / name).resolve() if name else path
    if not target.exists():
        return "leads nowhere"
    if target in pages and place not in pages[target].places:
        return "leads to no place on that page"
    return None


if __name__ == "__main__":
    wrong = faults(sys.argv[1])
    print(*wrong, f"{len(wrong)} faults", sep="\n")
    sys.exit(bool(wrong))

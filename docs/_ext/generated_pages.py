"""Pages that follow from the repository: the API reference, measurements, what is beside docs/."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from pathlib import Path

from public_names import documented_names, offered_elsewhere

from skanomaly._public import public_classes
from skanomaly._site import REFERENCE
from skanomaly.utils import all_detectors

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)#\s]+)")
# Files of the repository, and the pages that stand for them on the site.
STOOD_FOR = {
    "README.md": "index.md",
    "docs/examples/GALLERY_HEADER.rst": "gallery/index.rst",
}
IF_THERE = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FOR_AUTHORS = ("base", "growing", "images", "maps", "features", "training", "utils", "detectors")
FOR_AUTHORS += ("compose", "deployment")


def setup(app):
    app.connect("config-inited", lambda app, config: write(Path(app.srcdir)), priority=1)
    app.connect("source-read", _link_to_pages)
    return {"parallel_read_safe": True}


def write(docs):
    """Write all pages below a folder; what has not changed stays untouched, for quick builds."""
    pages = {**reference_pages(), **copied_pages()}
    for folder in {path.split("/")[0] for path in pages}:
        for path in (docs / folder).rglob("*.*"):
            name = path.relative_to(docs).as_posix()
            if name not in pages and not name.startswith("reference/used_in/"):
                path.unlink()
    for name, text in pages.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# The reference.


def reference_pages():
    """Text of each page of the API reference, by its path below docs/."""
    documented = documented_names()
    pages = {"reference/index.rst": _reference_index(documented)}
    for module, names in documented.items():
        groups = _top_level_groups(names) if module == "skanomaly" else {"": names}
        pages[f"reference/{module}.rst"] = _module_page(module, groups)
        for name in names:
            pages[f"{REFERENCE}/{module}.{name}.rst"] = _page_of(module, name)
    return pages


def _reference_index(documented):
    authors = [m for m in documented if m.partition(".")[2].split(".")[0] in FOR_AUTHORS]
    users = [m for m in documented if m not in authors]
    return "\n".join(
        [
            _title("API reference", "="),
            "Every public name, from the docstrings. Detectors have the methods of scikit-learn's",
            "outlier detectors; beside those that are listed they have its ``get_params``,",
            "``set_params``, ``set_output`` and the requests of metadata routing.",
            "",
            *_listed("For those who inspect", users),
            *_listed("For those who write detectors", authors),
        ]
    )


def _listed(title, modules):
    yield _title(title, "-")
    yield ".. list-table::\n   :widths: 35 65\n"
    for module in modules:
        yield f"   * - :doc:`{module} <{module}>`"
        yield f"     - {_first_line(importlib.import_module(module))}"
    yield "\n.. toctree::\n   :hidden:\n"
    yield from (f"   {module}" for module in modules)
    yield ""


def _first_line(module):
    return inspect.getdoc(module).splitlines()[0]


def _top_level_groups(names):
    detectors = [name for name, _ in all_detectors()]
    around = list(public_classes("compose"))
    groups = {"Detectors": detectors, "Estimators around others": around}
    used = {*detectors, *around}
    return groups | {"Images, models and what goes with them": [n for n in names if n not in used]}


def _module_page(module, groups):
    lines = [_title(module, "="), f".. module:: {module}\n", inspect.getdoc(_import(module)), ""]
    for title, names in groups.items():
        lines += [_title(title, "-")] if title else []
        lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names] + [""]
    if elsewhere := list(offered_elsewhere(module)):
        links = ", ".join(f":obj:`{name}`" for name in elsewhere)
        lines += [f"Also here: {links}.", ""]
    return "\n".join(lines)


def _page_of(module, name):
    value = getattr(_import(module), name)
    lines = [_title(name, "="), f".. currentmodule:: {module}\n"]
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        lines += [f".. autodata:: {name}", "   :no-value:", "", *_note_on(value)]
    elif inspect.isfunction(value):
        lines += [f".. autofunction:: {name}", ""]
    elif issubclass(value, BaseException):
        lines += [f".. autoexception:: {name}", ""]
    else:
        lines += [f".. autoclass:: {name}", *_members(value, name)]
    lines += [f".. minigallery:: {module}.{name}", "   :add-heading: Examples with it", ""]
    return "\n".join(lines)


def _note_on(value):
    """What an object that is neither class nor function, such as a scorer, says of itself."""
    if not type(value).__module__.startswith("skanomaly."):
        return []
    return [f"It is ``{value!r}``.", ""]


def _members(cls, name):
    if issubclass(cls, tuple):
        return ["   :members:", "   :undoc-members:", ""]
    methods = [m for m in sorted(dir(cls)) if not m.startswith("_") and is_documented(cls, m)]
    if not methods:
        return [""]
    return [
        "",
        "   .. rubric:: Methods\n",
        "   .. autosummary::",
        "      :nosignatures:\n",
        *(f"      ~{name}.{m}" for m in methods),
        "",
        *(
            f"   .. auto{_kind_of_member(cls, m)}:: {name}.{m}\n      :no-index-entry:\n"
            for m in methods
        ),
    ]


def is_documented(cls, name):
    """Whether the package itself says something of a method, beside what others' bases say."""
    found = inspect.getattr_static(cls, name)
    function = getattr(found, "fget", None) or getattr(found, "__func__", found)
    if getattr(function, "fn", None) is not None:  # scikit-learn's available_if
        function = function.fn
    own = (getattr(function, "__module__", None) or "").startswith("skanomaly.")
    return own and inspect.isroutine(function) and bool(function.__doc__)


def _kind_of_member(cls, name):
    return "property" if isinstance(inspect.getattr_static(cls, name), property) else "method"


def _title(text, underline):
    return f"{text}\n{underline * len(text)}\n"


_import = importlib.import_module


# What lies beside docs/.


def copied_pages():
    """Text of each page that is a Markdown file beside docs/, by its path below docs/."""
    pages = {
        page: _with_links(source, page, (ROOT / source).read_text(encoding="utf-8"))
        for source, page in _copied().items()
    }
    pages["measurements/index.md"] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"
    return pages


def _copied():
    pages = {"benchmarks/README.md": "measurements/index.md"}
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        pages[f"benchmarks/results/{path.name}"] = f"measurements/{path.name}"
    pages |= {n: f"project/{n.lower()}" for n in IF_THERE if (ROOT / n).exists()}
    return pages


def _with_links(source, page, text):
    """A file's text with links that hold from its page; `source` is below ROOT, `page` docs/."""
    pages, here = STOOD_FOR | _copied(), (ROOT / source).parent

    def from_page(match):
        target = Path(os.path.normpath(here / match[2])).relative_to(ROOT).as_posix()
        in_docs = pages.get(target)
        at = ROOT / "docs" / in_docs if in_docs else ROOT / target
        return match[1] + Path(os.path.relpath(at, (ROOT / "docs" / page).parent)).as_posix()

    return LINK.sub(from_page, text)


def _link_to_pages(app, docname, source):
    """Let links of guides to Markdown files beside docs/ lead to their pages."""
    page = f"{docname}.md"
    path = Path(app.srcdir) / page
    if path.exists() and docname.split("/")[0] not in ("measurements", "project", "gallery"):
        source[0] = _with_links(f"docs/{page}", page, source[0])

"""Names in the text lead to the reference: `PatchCore` in a docstring, ``PatchCore`` in a guide."""

from __future__ import annotations

import re
from collections import Counter

from docutils import nodes
from public_names import documented_names
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import make_refnode

_MODULES = documented_names()
_TIMES = Counter(name for names in _MODULES.values() for name in names)
FULL_NAMES = {
    name: f"{module}.{name}"
    for module, names in _MODULES.items()
    for name in names
    if _TIMES[name] == 1
}
# Without intersphinx, whose inventories a build would have to download.
SKLEARN = "https://scikit-learn.org/stable/modules/generated/{}.html"


def setup(app):
    app.connect("missing-reference", _found_by_short_name)
    app.add_transform(LinkedNames)
    return {"parallel_read_safe": True}


class LinkedNames(SphinxTransform):
    """Make links of a guide's inline code that is a public name."""

    default_priority = 400

    def apply(self):
        if not self.document.get("source", "").endswith(".md"):
            return
        for literal in list(self.document.findall(nodes.literal)):
            name = re.fullmatch(r"(?:skanomaly\.)?(\w+)(?:\(\))?", literal.astext())
            if name and name[1] in FULL_NAMES and not _in_link_or_title(literal):
                link = pending_xref(
                    "",
                    literal.deepcopy(),
                    refdomain="py",
                    reftype="obj",
                    reftarget=FULL_NAMES[name[1]],
                    refexplicit=True,
                    refdoc=self.env.docname,
                )
                literal.replace_self(link)


def _in_link_or_title(node):
    within = (nodes.reference, nodes.title, pending_xref)
    while node.parent is not None:
        node = node.parent
        if isinstance(node, within):
            return True
    return False


def _found_by_short_name(app, env, node, contnode):
    """What a single-backtick name means that is public elsewhere; else it is code."""
    if node.get("refdomain") != "py" or node["reftype"] != "obj":
        return None
    if re.fullmatch(r"sklearn\.(\w+\.)*\w+", node["reftarget"]):
        return nodes.reference("", "", contnode, refuri=SKLEARN.format(node["reftarget"]))
    first, _, rest = node["reftarget"].removeprefix("skanomaly.").partition(".")
    full = FULL_NAMES.get(first)
    objects = env.domains.python_domain.objects
    for name in (f"{full}.{rest}", full):
        if full and name in objects:
            entry = objects[name]
            return make_refnode(
                app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, name
            )
    return contnode

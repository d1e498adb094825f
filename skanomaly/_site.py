"""Where the documentation is, and which page of it is about what."""

from __future__ import annotations

import sys

SITE = "https://skanomaly.readthedocs.io/"
REFERENCE = "reference/generated"


class DocumentedOnSite:
    """Lets the "?" of scikit-learn's HTML representation lead to the page of a class."""

    _doc_link_module = "skanomaly"
    _doc_link_template = SITE + "{page}"

    def _doc_link_url_param_generator(self):
        name = public_name(type(self))
        return {"page": f"{REFERENCE}/{name}.html" if name else "reference/index.html"}


def public_name(cls):
    """The shortest name under which a class of the package can be imported.

    Parameters
    ----------
    cls : class

    Returns
    -------
    str or None
        Such as "skanomaly.PaDiM"; None if it is not public.
    """
    parts = cls.__module__.split(".")
    for n_parts in range(1, len(parts) + 1):
        if parts[n_parts - 1].startswith("_"):
            return None
        module = sys.modules[".".join(parts[:n_parts])]
        if cls.__name__ in getattr(module, "__all__", vars(module)):
            return f"{module.__name__}.{cls.__name__}"
    return None

"""Which classes are public: in some folders, the one that each file is named after."""

from __future__ import annotations

import re
from importlib.resources import files


def public_classes(*folders):
    """Public classes of the package's folders, found without importing any.

    A file that begins with an underscore has none; any other defines a class whose name is
    the file's, but for underscores and capitals: ``padim.py`` defines ``PaDiM``.

    Parameters
    ----------
    *folders : str

    Returns
    -------
    dict
        From the name of each class to its module's, within the package.
    """
    found = {}
    for folder in folders:
        for file in sorted(files(__package__).joinpath(folder).iterdir(), key=lambda f: f.name):
            stem, _, suffix = file.name.partition(".")
            if suffix == "py" and not stem.startswith("_"):
                found[_class_named_after(stem, file)] = f"{folder}.{stem}"
    return found


def _class_named_after(stem, file):
    names = re.findall(r"^class (\w+)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name in names:
        if name.lower() == stem.replace("_", ""):
            return name
    raise ImportError(
        f"{file} defines {', '.join(names) or 'no class'}, and none is named as the file is "
        f"(such as {stem.title().replace('_', '')}); rename one of them, or let the file's name "
        "begin with an underscore if nothing in it is public"
    )

"""YAML without its traps: 1e-4 is a number, a key that stands twice is an error, no code runs."""

from __future__ import annotations

import re
from collections.abc import Hashable

import yaml

from ._output import CommandError


class _Loader(yaml.SafeLoader):
    """PyYAML's, which reads YAML 1.1, with the numbers of YAML 1.2."""

    def construct_mapping(self, node, deep=False):
        found = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in found:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key!r} stands twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, Hashable):
                found.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)


def parsed_yaml(text, name):
    """What YAML stands for: dicts, lists, text, numbers; lists of these alone become tuples.

    Parameters
    ----------
    text : str or bytes
    name : str
        Where it comes from, for the error.
    """
    try:
        # A subclass of SafeLoader, which builds nothing but data.
        return _with_tuples(yaml.load(text, _Loader))
    except yaml.YAMLError as error:
        raise CommandError(f"{name} is no YAML: {_in_a_line(error)}") from None


def _in_a_line(error):
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return where + (getattr(error, "problem", None) or " ".join(str(error).split()))


def _with_tuples(value):
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_with_tuples(item) for item in value]
        return items if any(isinstance(item, (dict, str)) for item in items) else tuple(items)
    return value

"""All that is taken from scikit-learn's private modules, so that a change there is met here."""

from __future__ import annotations

import math
from itertools import pairwise
from numbers import Integral

from sklearn.model_selection._split import GroupsConsumerMixin
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    RealNotInt,
    StrOptions,
)
from sklearn.utils.metaestimators import _BaseComposition as Composition

__all__ = [
    "Composition",
    "GroupsConsumerMixin",
    "HasMethods",
    "Interval",
    "Numbers",
    "RealNotInt",
    "StrOptions",
    "safe_indexing",
]


class Numbers(Options):
    """Constraint: a tuple or list of numbers.

    Parameters
    ----------
    kind : Integral or Real
        Of each number; finite, and no bool.
    low : number
        The least that each may be.
    length : int or tuple of int, default=()
        How many there are, or may be; any number from one on by default.
    ascending : bool, default=False
        Whether each is larger than the one before.
    """

    def __init__(self, kind, low, *, length=(), ascending=False):
        super().__init__(object, {None})
        self.kind, self.low, self.ascending = kind, low, ascending
        self.lengths = (length,) if isinstance(length, Integral) else length

    def is_satisfied_by(self, val):
        """Whether a value is such a sequence."""
        if not isinstance(val, (tuple, list)) or not len(val):
            return False
        if self.lengths and len(val) not in self.lengths:
            return False
        if not all(self._is_one(number) for number in val):
            return False
        return not self.ascending or all(a < b for a, b in pairwise(val))

    def _is_one(self, number):
        return (
            isinstance(number, self.kind)
            and not isinstance(number, bool)
            and math.isfinite(number)
            and number >= self.low
        )

    def __str__(self):
        numbers = "whole numbers" if self.kind is Integral else "finite numbers"
        how_many = " or ".join(map(str, self.lengths)) or "one or more"
        least = "" if self.low == -math.inf else f" from {self.low} on"
        order = ", ascending" if self.ascending else ""
        return f"a tuple or list of {how_many} {numbers}{least}{order}"

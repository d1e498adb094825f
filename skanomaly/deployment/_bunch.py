"""What a detector found, by name, also where there is no scikit-learn."""

from __future__ import annotations


def bunch(**found):
    """scikit-learn's Bunch of what was found; where that is not installed, one that does the same.

    Returns
    -------
    Bunch
    """
    try:
        from sklearn.utils import Bunch  # whose import takes longer than scoring
    except ImportError:
        return _Bunch(found)
    return Bunch(**found)


class _Bunch(dict):
    """A dict whose values are attributes, too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self):
        return [*super().__dir__(), *self]

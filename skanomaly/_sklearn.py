"""All that is taken from scikit-learn's private modules, so that a change there is met here."""

from sklearn.model_selection._split import GroupsConsumerMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

__all__ = ["GroupsConsumerMixin", "HasMethods", "Interval", "StrOptions"]

"""What estimators around a detector share."""

from __future__ import annotations

from .._parameters import equal_values


def with_parameters_of(declared, fitted):
    """A copy of a fitted detector with the parameters that an unfitted one has by now.

    Parameters
    ----------
    declared : detector
        The parameter of a composite, which was cloned to be fitted; its own parameters may
        have been changed since.
    fitted : detector

    Returns
    -------
    detector
        Shares what is fitted with the other; whether its parameters still go with it is its own
        to check, as it is with a detector by itself.

    Raises
    ------
    ValueError
        If it is of another class.
    """
    if type(declared) is not type(fitted):
        raise ValueError(
            f"detector is a {type(declared).__name__} and was a {type(fitted).__name__} in fit; "
            "fit anew, or set it back"
        )
    copied = fitted._copied()
    for name, value in declared.get_params(deep=False).items():
        if name != "random_state":  # what it has drawn, is drawn
            setattr(copied, name, value)
    return copied


def kind_of(given):
    """What an error calls an object that is no instance of what is expected."""
    if isinstance(given, type):
        return f"the class {given.__name__}; pass an instance, such as {given.__name__}()"
    return f"a {type(given).__name__}"


def asked_of(composite, name):
    """A parameter of the detector in a composite, for those who ask the composite for it.

    Parameters
    ----------
    composite : estimator with a parameter ``detector``
    name : str

    Returns
    -------
    object

    Raises
    ------
    AttributeError
        If it is no parameter.
    """
    detector = vars(composite).get("detector")
    while detector is not None and not isinstance(detector, type):
        if name in detector.get_params(deep=False):
            return getattr(detector, name)
        detector = vars(detector).get("detector")
    raise AttributeError(f"{type(composite).__name__!r} object has no attribute {name!r}")


def check_unchanged(declared, fitted, name):
    """Refuse an estimator whose parameters are others than when it was cloned and fitted.

    Parameters
    ----------
    declared, fitted : estimator
    name : str
        Of the composite's parameter, for the error.

    Raises
    ------
    ValueError
    """
    if type(declared) is not type(fitted):
        raise ValueError(
            f"{name} is a {type(declared).__name__} and was a {type(fitted).__name__} in fit; fit "
            "anew, or set it back"
        )
    before = fitted.get_params()
    for key, value in declared.get_params().items():
        if _is_nested(value) and _is_nested(before.get(key)):
            continue  # their own parameters are among these
        if key not in before or not equal_values(value, before[key]):
            raise ValueError(
                f"{name}__{key} is {value!r} and was {before.get(key)!r} in fit; fit anew, or set "
                "it back"
            )


def _is_nested(value):
    return hasattr(value, "get_params") or (
        isinstance(value, list) and any(isinstance(item, tuple) for item in value)
    )

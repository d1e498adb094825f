"""Parameters are declared once, in the class they belong to, and inherited."""

import inspect
import keyword
import pickle
from dataclasses import MISSING
from numbers import Integral, Real
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpydoc.docscrape import ClassDoc
from sklearn.base import BaseEstimator, clone
from sklearn.utils import estimator_html_repr
from sklearn.utils._param_validation import InvalidParameterError

from skanomaly._parameters import DeclaredParameters, parameter
from skanomaly._sklearn import Interval, StrOptions

POSITIVE = Interval(Real, 0, None, closed="neither")


class Blur(DeclaredParameters, BaseEstimator):
    """Blur images.

    By a Gaussian.

    Parameters
    ----------
    sigma : float
        Standard deviation in pixels.

        Of both axes.
    border : {"edge", "wrap"}
        What lies outside.

    Attributes
    ----------
    kernel_ : ndarray
        The weights.

    Notes
    -----
    A note.
    """

    sigma: float = parameter(4.0, POSITIVE)
    border: str = parameter("edge", StrOptions({"edge", "wrap"}))
    shared: ClassVar[int] = 0

    def fit(self, X=None, y=None):
        self._validate_params()
        return self


class StrongBlur(Blur):
    """Blur images strongly."""

    sigma = 16.0
    shared = 1  # no parameter


class OtherSentence(Blur):
    """Blur images.

    Parameters
    ----------
    sigma : float
        Another sentence.

    Attributes
    ----------
    n_ : int
        A number.
    """


class OtherConstraints(Blur):
    """Blur images by whole pixels."""

    sigma: int = parameter(2, Interval(Integral, 1, None, closed="left"))


class Further(StrongBlur):
    """Blur images, several times.

    Parameters
    ----------
    n_times : int
        How often.
    """

    n_times: int = parameter(MISSING, Integral, kw_only=False)
    sigma: float = parameter(1.0)


class Written(Blur):
    """Has an ``__init__`` of its own.

    Parameters
    ----------
    sigma : float
    """

    def __init__(self, sigma=3.0):
        self.sigma = sigma
        self.border = "wrap"


class OfWritten(Written):
    """Inherits it."""

    sigma = 5.0


class Seeded(DeclaredParameters, BaseEstimator):
    """Draw.

    Parameters
    ----------
    seed : int
        The seed.
    """

    seed: int = parameter(0, Integral)


class SeededBlur(Seeded, StrongBlur):
    """Both."""


class PlainBlur(Blur):
    """Says nothing of its parameters."""


class Diamond(PlainBlur, StrongBlur, OtherSentence, OtherConstraints):
    """The first base class has `sigma` from `Blur`, of which the others say more."""


ALL = [Blur, StrongBlur, OtherSentence, OtherConstraints, Seeded, SeededBlur, Diamond]


def defaults(cls):
    return {name: p.default for name, p in inspect.signature(cls).parameters.items()}


def documented(cls):
    return {p.name: (p.type, "\n".join(p.desc)) for p in ClassDoc(cls)["Parameters"]}


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Blur, {"sigma": 4.0, "border": "edge"}),
        (StrongBlur, {"sigma": 16.0, "border": "edge"}),
        (OtherSentence, {"sigma": 4.0, "border": "edge"}),
        (SeededBlur, {"sigma": 16.0, "border": "edge", "seed": 0}),
        (Further, {"n_times": inspect.Parameter.empty, "sigma": 1.0, "border": "edge"}),
        (Diamond, {"sigma": 16.0, "border": "edge"}),
    ],
)
def test_defaults_are_inherited_or_given_anew(cls, expected):
    assert defaults(cls) == expected
    estimator = cls(7) if cls is Further else cls()
    given = {name: 7 if name == "n_times" else value for name, value in expected.items()}
    assert estimator.get_params() == given
    assert set(cls._parameter_constraints) == set(expected)


def test_what_all_objects_share_is_no_parameter():
    assert (Blur.shared, StrongBlur.shared, Diamond.shared) == (0, 1, 1)
    for cls in (Blur, StrongBlur, Diamond):
        assert "shared" not in defaults(cls)


def test_a_default_given_anew_leaves_the_base_class_alone():
    assert Blur().sigma == 4.0
    assert defaults(Blur)["sigma"] == 4.0
    assert "default=4.0" in documented(Blur)["sigma"][0]


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Blur, {"sigma": 0}),
        (Blur, {"border": "mirror"}),
        (StrongBlur, {"sigma": 0}),
        (OtherSentence, {"border": None}),
        (OtherConstraints, {"sigma": 1.5}),
        (SeededBlur, {"sigma": -1}),
        (SeededBlur, {"seed": 0.5}),
        (Diamond, {"sigma": 1.5}),
        (Diamond, {"border": "mirror"}),
    ],
)
def test_constraints_are_those_of_the_nearest_class_that_states_some(cls, wrong):
    cls(sigma=3).fit()
    with pytest.raises(
        InvalidParameterError, match=f"'{next(iter(wrong))}' parameter of {cls.__name__}"
    ):
        cls(**{"sigma": 3} | wrong).fit()


def test_no_constraints_keep_those_of_the_base_class():
    assert Further(1, sigma=0.5).fit()
    with pytest.raises(InvalidParameterError, match="'sigma' parameter of Further"):
        Further(1, sigma=-1.0).fit()


def test_parameters_are_given_by_name_but_where_it_is_declared_otherwise():
    assert Further(3).n_times == 3
    with pytest.raises(TypeError, match="positional"):
        Blur(3.0)
    with pytest.raises(TypeError, match="n_times"):
        Further()
    with pytest.raises(TypeError, match="unknown"):
        Blur(unknown=1)
    kinds = {name: p.kind.name for name, p in inspect.signature(Further).parameters.items()}
    assert kinds.pop("n_times") == "POSITIONAL_OR_KEYWORD"
    assert set(kinds.values()) == {"KEYWORD_ONLY"}


def test_docstrings_are_completed():
    found = documented(StrongBlur)
    assert list(found) == ["sigma", "border"]
    assert found["sigma"] == (
        "float, default=16.0",
        "Standard deviation in pixels.\n\nOf both axes.",
    )
    assert found["border"] == ('{"edge", "wrap"}, default=\'edge\'', "What lies outside.")
    assert [(a.name, a.desc) for a in ClassDoc(StrongBlur)["Attributes"]] == [
        ("kernel_", ["The weights."])
    ]
    assert ClassDoc(Blur)["Extended Summary"] == ["By a Gaussian."]
    assert ClassDoc(Blur)["Notes"] == ["A note."]
    assert not ClassDoc(StrongBlur)["Notes"]  # which are the base class's own


def test_a_sentence_alone_may_be_another():
    assert documented(OtherSentence)["sigma"] == ("float, default=4.0", "Another sentence.")
    assert documented(OtherSentence)["border"] == documented(Blur)["border"]
    assert [a.name for a in ClassDoc(OtherSentence)["Attributes"]] == ["n_", "kernel_"]


def test_what_must_be_given_has_no_default():
    assert documented(Further)["n_times"] == ("int", "How often.")
    assert documented(Further)["sigma"][0] == "float, default=1.0"


def test_of_several_base_classes_the_nearest_that_says_something_decides():
    """In the order of inheritance, as for any attribute, though dataclasses see it otherwise."""
    assert Diamond.sigma == Diamond().sigma == StrongBlur.sigma
    assert documented(Diamond)["sigma"] == ("float, default=16.0", "Another sentence.")
    assert (
        Diamond._parameter_constraints["sigma"] == OtherConstraints._parameter_constraints["sigma"]
    )
    assert [a.name for a in ClassDoc(Diamond)["Attributes"]] == ["n_", "kernel_"]


def test_a_class_without_a_docstring_documents_its_parameters():
    class Undocumented(Blur):
        sigma = 2.0

    assert documented(Undocumented) == {
        "sigma": ("float, default=2.0", documented(Blur)["sigma"][1]),
        "border": documented(Blur)["border"],
    }


def test_a_written_constructor_is_kept():
    assert list(defaults(Written)) == ["sigma"]
    assert Written().get_params() == {"sigma": 3.0}
    assert (Written(2.0).sigma, Written(2.0).border) == (2.0, "wrap")
    assert Written.__doc__.count("sigma") == 1
    assert OfWritten().sigma == 3.0


@pytest.mark.parametrize("cls", ALL)
def test_scikit_learn_and_pickle_see_every_parameter(cls):
    names = sorted(inspect.signature(cls).parameters)
    estimator = cls(sigma=3) if "sigma" in names else cls(seed=3)
    assert sorted(estimator.get_params()) == names == sorted(vars(estimator))
    assert clone(estimator).get_params() == estimator.get_params()
    assert pickle.loads(pickle.dumps(estimator)).get_params() == estimator.get_params()
    assert repr(estimator) == f"{cls.__name__}({'sigma' if 'sigma' in names else 'seed'}=3)"
    assert all(name in estimator_html_repr(estimator) for name in names)
    help_text = inspect.getdoc(cls)
    assert all(f"{name} : " in help_text for name in names)


def test_estimators_are_equal_only_to_themselves():
    assert Blur() != Blur()
    assert len({Blur(), Blur()}) == 2


names = st.from_regex(r"[a-z]{1,4}", fullmatch=True).filter(
    lambda name: not (hasattr(Blur, name) or keyword.iskeyword(name))
)
values = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)


@given(levels=st.lists(st.dictionaries(names, values, max_size=3), min_size=1, max_size=4))
def test_a_chain_of_classes_is_its_attributes(levels):
    """Each class of a chain declares some parameters, or gives them other defaults."""
    cls, expected = BaseEstimator, {}
    for level in levels:
        body = {name: parameter(v) if name not in expected else v for name, v in level.items()}
        new = [name for name in level if name not in expected]
        bases = (cls,) if issubclass(cls, DeclaredParameters) else (DeclaredParameters, cls)
        namespace = {**body, "__annotations__": dict.fromkeys(new, object), "__doc__": "One."}
        cls = type("Generated", bases, namespace)
        expected |= level
        assert cls().get_params() == expected
        assert defaults(cls) == expected

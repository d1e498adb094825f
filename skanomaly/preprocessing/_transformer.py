"""Transformers from images to images, which work when an image is looked at."""

from __future__ import annotations

import copy

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._parameters import DeclaredParameters, equal_values
from .._validation import image_labels
from ..exceptions import InvalidImageError
from ..images import LazyImages, check_images, check_values, path_of, taken, to_array
from ._placement import Placement


class BaseImageTransformer(DeclaredParameters, TransformerMixin, BaseEstimator):
    """Base of transformers from images to images.

    `transform` gives a batch whose images are transformed when they are looked at, one at a
    time, in the threads that read them, and that scikit-learn can index. A subclass
    implements

    ``_apply(image)``
        What becomes of an array (H, W, C), of the same dtype, and its `Placement`, or None
        where pixels stay in their places.
    ``_learn(images)``
        If it learns: set attributes from images, an iterable of such arrays that may be gone
        through several times.
    ``_traced(images)``
        If a file for ONNX can hold it: what becomes of a tensor (n, H, W, C) of integers or
        floats, by operations of PyTorch. ``_cut`` is then the (top, left, bottom, right) that is
        left of each, or None for all.
    """

    _cut = None

    def fit(self, X, y=None):
        """Learn from images, if there is something to learn.

        Parameters
        ----------
        X : batch of images
            As a detector takes it.
        y : None, array-like of int (n,), or masks (n, H, W), default=None
            Labels, +1 normal and -1 anomalous, or masks. Anomalous images are left out.

        Returns
        -------
        self

        Raises
        ------
        InvalidImageError
            If an image cannot be used; it names the image.
        """
        self._validate_params()
        X = check_images(X)
        normal = np.arange(len(X))
        if y is not None:
            normal = np.flatnonzero(image_labels(y, n=len(X)) == 1)
            if not len(normal):
                raise InvalidImageError("all images are anomalous by y; pass one that is normal")
        if self._learns:
            learnt = copy.copy(self)
            learnt._learn(_Arrays(X, normal, self._check))
            learnt.fitted_parameters_ = copy.deepcopy(self._parameters_of_fit())
            self.__dict__ = vars(learnt)
        return self

    def transform(self, X):
        """The images, transformed when they are looked at.

        Parameters
        ----------
        X : batch of images
            As a detector takes it.

        Returns
        -------
        TransformedImages
            One that is looked at is an array of its own dtype, (H, W) if it was, else
            (H, W, C). What cannot be transformed is an error then.
        """
        self._validate_params()
        if self._learns:
            check_is_fitted(self)
            self._check_parameters()
        return TransformedImages(check_images(X), copy.copy(self))

    def _check(self, image):
        """Refuse an image with NaN or infinity, or beyond white, where it counts what that is.

        What is made of them would look like any other image.
        """
        if hasattr(self, "value_range"):
            check_values(image, self.value_range)
        elif image.dtype.kind == "f" and not np.isfinite(image).all():
            check_values(image, None)

    def _parameters_of_fit(self):
        """Values, by name, of parameters that what is learnt depends on."""
        parameters = self.get_params(deep=False)
        return {k: v for k, v in parameters.items() if self._affects.get(k) != "nothing"}

    def _check_parameters(self):
        for name, value in self._parameters_of_fit().items():
            before = self.fitted_parameters_.get(name, value)
            if not equal_values(value, before):
                raise ValueError(
                    f"{name} of {type(self).__name__} is {value!r} and was {before!r} in fit; fit "
                    "anew, or set it back"
                )

    @property
    def _learns(self):
        return hasattr(self, "_learn")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = self._learns
        return tags

    def __sklearn_is_fitted__(self):
        return not self._learns or hasattr(self, "fitted_parameters_")


class TransformedImages(LazyImages):
    """Images as a transformer makes them, when they are looked at.

    Parameters
    ----------
    X : batch of images
    transformer : BaseImageTransformer

    Attributes
    ----------
    X, transformer
        As given.
    shape : tuple (n,)
    """

    def __init__(self, X, transformer):
        self.X, self.transformer = X, transformer

    def placed(self, i):
        """Image i, and where its pixels lie in the one that it was made of first of all.

        Parameters
        ----------
        i : int

        Returns
        -------
        image : ndarray, shape (H, W) or (H, W, C)
        placement : Placement
        """
        if isinstance(self.X, TransformedImages):
            item, before = self.X.placed(i)
        else:
            item, before = self.X[i], None
        image = to_array(item)
        before = Placement.unmoved(image.shape[:2]) if before is None else before
        try:
            self.transformer._check(image)
            made, placement = self.transformer._apply(image)
        except InvalidImageError as error:
            where = {"index": self.index_of(i), "path": self.path_at(i)}
            raise type(error)(error.reason, **where) from error.__cause__
        if getattr(item, "ndim", 3) == 2 and made.shape[2] == 1:
            made = made[..., 0]
        return made, before if placement is None else before.then(placement)

    def path_at(self, i):
        """The file of image i, or None if it comes from none."""
        return self.X.path_at(i) if isinstance(self.X, LazyImages) else path_of(self.X[i])

    def index_of(self, i):
        """The number that errors call image i by."""
        return self.X.index_of(i) if isinstance(self.X, LazyImages) else i

    def is_moved(self, i):
        """Whether the pixels of image i are not where masks and regions take them to be."""
        return not self.placed(i)[1].is_unmoved()

    def __len__(self):
        return len(self.X)

    def _image(self, i):
        return self.placed(i)[0]

    def _subset(self, indices):
        return TransformedImages(taken(self.X, indices), self.transformer)

    def __repr__(self):
        return f"TransformedImages({len(self)} images, {self.transformer!r})"


class _Arrays:
    """Images one after the other as arrays (H, W, C), whose errors name them."""

    def __init__(self, X, indices, check):
        self.X, self.indices, self.check = X, indices, check

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, position):
        index = int(self.indices[position])
        try:
            image = to_array(self.X[index])
            self.check(image)
            return image
        except InvalidImageError as error:
            raise self.error(position, error.reason) from error.__cause__

    def error(self, position, reason):
        """An error that names an image."""
        index = int(self.indices[position])
        if isinstance(self.X, LazyImages):
            where = {"index": self.X.index_of(index), "path": self.X.path_at(index)}
        else:
            where = {"index": index, "path": path_of(self.X[index])}
        return InvalidImageError(reason, **where)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

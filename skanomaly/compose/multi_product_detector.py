"""Several products in one set of images: a detector for each."""

from __future__ import annotations

import hashlib
import os
from dataclasses import MISSING

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    OutlierMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.validation import check_is_fitted

from .._image_detector import ImageDetector
from .._parameters import DeclaredParameters, parameter
from .._validation import image_labels, product_names
from ..images import PartOfBatch, Regions, check_images
from ._judging_by_product import JudgesByProduct
from ._products import at_work_on, check_can_join, check_validation, places_of
from ._wrapping import with_parameters_of


class MultiProductDetector(
    JudgesByProduct,
    DeclaredParameters,
    OutlierMixin,
    TransformerMixin,
    MetaEstimatorMixin,
    BaseEstimator,
):
    """Fit a detector for each product among images of several, and judge each image by its own.

    Whoever inspects several parts has one folder of images and a column that says which part
    each shows. `product` is that column: every method takes it beside the images, which may
    come in any order, and results have the order of the images.

    What is fitted for a product is, bit for bit, what `detector` alone is after a fit on the
    images of that product; no other product and no order changes it.

    Parameters
    ----------
    detector : detector of images
        Is cloned for each product, not fitted itself; an `EnsembleDetector`, too. Steps that
        change images come before this one, in a Pipeline. Of its parameters those hold that
        it has now, as for a detector alone: how results are computed may change at any time,
        what scores depend on if `calibrate` follows. A `checkpoint` is the beginning of the
        name of a file for each product.

    Attributes
    ----------
    products_ : ndarray of str objects or of int, shape (n_products,)
        Names of the products, in ascending order.
    fitted_detectors_ : list of detector
        The fitted clones, in the order of `products_`.
    detectors_ : dict
        The same by product: ``detectors_["bottle"]`` is a detector like any other, to export,
        to plot, to evaluate.
    offsets_ : dict of float
        For each product the threshold on `score_samples`: what lies below is anomalous.
    map_thresholds_ : dict of float
        For each product the map value that `false_alarm_rate` of new normal images exceed.

    See Also
    --------
    EnsembleDetector : Several detectors for one product.

    Notes
    -----
    Scores and maps of different products are in units of their own: an image of one with a
    score of -3 need not be worse than one of another with -2, so that neither may be pooled
    into one ranking or one curve. `p_values` may be compared, and `decision_function` as to
    its sign: its zero is the threshold of each.

    `product` is asked for by default: with ``sklearn.set_config(enable_metadata_routing=True)``
    searches, cross-validation and pipelines hand it on, cut to the fold, to every method and
    to the scorers of `skanomaly.metrics`, which then give the mean over products.

    A fit holds what `detector` holds for one product at a time, and the fitted ones.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import MultiProductDetector, PaDiM
    >>> from skanomaly.datasets import make_texture_defects
    >>> brick, gravel = (
    ...     make_texture_defects(name, n_normal=12, image_size=64, random_state=0).images
    ...     for name in ("brick", "gravel")
    ... )
    >>> X, product = np.concatenate([brick, gravel]), ["brick"] * 12 + ["gravel"] * 12
    >>> padim = PaDiM(image_size=64, n_features=10, random_state=0)
    >>> detector = MultiProductDetector(padim).fit(X, product=product)
    >>> detector.predict(X[[0, 12]], product=["brick", "gravel"])
    array([1, 1])
    >>> list(detector.detectors_)
    ['brick', 'gravel']
    """

    detector: object = parameter(MISSING, object, kw_only=False)

    __metadata_request__fit = {"product": True, "groups": True}
    __metadata_request__partial_fit = {"product": True}
    __metadata_request__transform = {"product": True}
    __metadata_request__decision_function = {"product": True}
    __metadata_request__predict = {"product": True}

    def fit(
        self,
        X,
        y=None,
        *,
        product=None,
        roi=None,
        groups=None,
        X_val=None,
        product_val=None,
    ):
        """Fit a clone of the detector on the images of each product.

        If it fails for one of them, everything stays as it was.

        Parameters
        ----------
        X : array, or sequence of arrays, PIL images or paths, or ImageFiles
            Normal images, as a detector alone takes them. They are read product by product,
            and not copied.
        y : None, array-like of int (n,), or masks (n, H, W), default=None
            Labels, +1 normal and -1 anomalous, or masks, True where a defect is.
            Anomalous images are left out.
        product : array-like of str or int, shape (n,), or one str or int
            The product that each image shows; one for all images if it is one.
        roi : array of bool, sequence of such, or None, default=None
            Region of interest: (H, W) for all images or one such array for each, which may
            be None.
        groups : array-like (n,) or None, default=None
            What each image belongs to, such as its part, lot or camera. Images of one product
            and group are all learnt from or all kept out.
        X_val : batch of images or None, default=None
            Normal images that the thresholds are set from, some of every product.
        product_val : array-like of str or int, one str or int, or None, default=None
            The products of `X_val`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `product` is missing, or is not one for each image; if an image, or too few
            of a product, cannot be used.

        Warns
        -----
        ThresholdWarning
            As of a detector alone; it names the product.
        """
        members = self._fitted({}, X, y, product, roi, groups, self._validation(X_val, product_val))
        self._become(members)
        return self

    def partial_fit(self, X, y=None, *, product=None, roi=None):
        """Add products, or take further images of known ones into account.

        A new product is fitted from scratch, a known one learns on by `partial_fit` of its
        detector. Others stay, bit for bit. If it fails, everything stays as it was. The first
        call is `fit`.

        Parameters
        ----------
        X : batch of images
            As for `fit`.
        y : None, labels or masks
            As for `fit`.
        product : array-like of str or int, shape (n,), or one str or int
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As of `fit`; or if images are of a known product whose detector cannot learn on.
        """
        known = self._members() if self.__sklearn_is_fitted__() else {}
        members = self._fitted(known, X, y, product, roi, None, None)
        self._become(known | members)
        return self

    def calibrate(self, X=None, *, product=None, roi=None):
        """Set thresholds anew, for the present `false_alarm_rate` of the detector.

        Parameters
        ----------
        X : batch of images or None, default=None
            Normal images that were not learnt from; products of which there are none keep
            their thresholds. None sets all thresholds from the scores kept from `fit`.
        product : array-like of str or int, one str or int, or None, default=None
            The products of `X`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self
        """
        members = self._members()
        if X is None:
            if product is not None:
                raise ValueError(
                    "product is given without images; pass X too, or neither, which calibrates all"
                )
            for name, member in members.items():
                with at_work_on(name):
                    members[name] = self._present(member).calibrate()
        else:
            for name, _, member, part in self._parts(X, product, roi):
                with at_work_on(name):
                    members[name] = member.calibrate(part, roi=roi)
        self._become(members)
        return self

    def fit_predict(
        self, X, y=None, *, product=None, roi=None, groups=None, X_val=None, product_val=None
    ):
        """Fit on images, and give the verdict on each of them, also on those left out.

        Parameters
        ----------
        X, y, product, roi, groups, X_val, product_val : as for `fit`

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        how = {"roi": roi, "groups": groups, "X_val": X_val, "product_val": product_val}
        return self.fit(X, y, product=product, **how).predict(X, product=product, roi=roi)

    def fit_transform(
        self, X, y=None, *, product=None, roi=None, groups=None, X_val=None, product_val=None
    ):
        """Fit on images, and give the map of each of them, also of those left out.

        Parameters
        ----------
        X, y, product, roi, groups, X_val, product_val : as for `fit`

        Returns
        -------
        ndarray, shape (n, H, W), float32
        """
        how = {"roi": roi, "groups": groups, "X_val": X_val, "product_val": product_val}
        return self.fit(X, y, product=product, **how).transform(X, product=product, roi=roi)

    @property
    def detectors_(self):
        """The fitted detector of each product."""
        return self._members()

    @property
    def offsets_(self):
        """Threshold on `score_samples` of each product."""
        return {name: member.offset_ for name, member in self._members().items()}

    @property
    def map_thresholds_(self):
        """Threshold on maps of each product."""
        return {name: member.map_threshold_ for name, member in self._members().items()}

    def _members(self):
        """The fitted detectors by product at this moment."""
        state = vars(self)  # which another thread's fit replaces as a whole
        if "products_" not in state:
            check_is_fitted(self)
        return dict(zip(state["products_"].tolist(), state["fitted_detectors_"], strict=True))

    def _become(self, members):
        """Take over fitted detectors, at once for every other thread."""
        names = sorted(members)
        kind = object if isinstance(names[0], str) else np.int64
        self.__dict__ = vars(self) | {
            "products_": np.array(names, dtype=kind),
            "fitted_detectors_": [members[name] for name in names],
        }

    def _present(self, member):
        """A fitted detector with the parameters that hold now."""
        return with_parameters_of(self.detector, member)

    def _check_detector(self):
        if isinstance(self.detector, type) or not isinstance(self.detector, ImageDetector):
            name = getattr(self.detector, "__name__", type(self.detector).__name__)
            raise ValueError(
                f"The 'detector' parameter of {type(self).__name__} must be a detector of images, "
                f"such as PatchCore(), got {name}; steps that change images go before this one, as "
                "in make_pipeline(step, MultiProductDetector(detector))"
            )

    def _fitted(self, known, X, y, product, roi, groups, validation):
        """Detectors of the products of some images, known ones grown; by product."""
        self._check_detector()
        X = check_images(X)
        names = product_names(product, len(X))
        check_can_join(names, known)
        Regions(roi, len(X))
        if y is not None:
            image_labels(y, len(X))
        if groups is not None and len(groups) != len(X):
            raise ValueError(f"groups is of length {len(groups)}, X of length {len(X)}")
        places = places_of(names)
        if validation is not None:
            check_validation(validation, places)
        y, groups = (None if values is None else list(values) for values in (y, groups))
        members = {}
        for name, at in places.items():
            part, labels = PartOfBatch(X, at), None if y is None else [y[i] for i in at]
            with at_work_on(name):
                if name in known:
                    members[name] = self._present(known[name]).partial_fit(part, labels, roi=roi)
                    continue
                members[name] = self._blank(name).fit(
                    part,
                    labels,
                    roi=roi,
                    groups=None if groups is None else [groups[i] for i in at],
                    X_val=None if validation is None else validation[name],
                )
        return members

    def _blank(self, name):
        """A detector for a product, not fitted yet; no two of them share a file to go on from."""
        blank = clone(self.detector)
        for parameter_name, value in blank.get_params().items():
            if parameter_name.rpartition("__")[2] == "checkpoint" and value is not None:
                digest = hashlib.sha256(repr(name).encode()).hexdigest()[:12]
                blank.set_params(**{parameter_name: f"{os.fspath(value)}.{digest}"})
        return blank

    def _validation(self, X_val, product_val):
        """The images that set thresholds, by product."""
        if X_val is None:
            if product_val is not None:
                raise ValueError("product_val is given without X_val; pass both or neither")
            return None
        X_val = check_images(X_val)
        names = product_names(product_val, len(X_val), "product_val")
        return {name: PartOfBatch(X_val, at) for name, at in places_of(names).items()}

    def __sklearn_is_fitted__(self):
        return "products_" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

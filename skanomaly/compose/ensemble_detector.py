"""Several detectors as one, which hold out once and whose maps are summed in one unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import MISSING
from numbers import Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from .._map_units import MapMoments, joined, weights_of, with_regions
from .._parameters import parameter
from .._sklearn import Composition, Numbers, StrOptions
from ..base import BaseImageDetector
from ..detectors.local_contrast import LocalContrast
from ..detectors.patch_core import PatchCore
from ..detectors.subspace_ad import SubspaceAD
from ..growing import GrowingDetector, n_judged_by, pooled_moments

# Knots of the function from map values to p-values, and pixels that it is told by.
N_KNOTS, MAX_PIXELS = 64, 2**20


def _all_grow(ensemble):
    """Whether all members have `partial_fit`; the error says which has not."""
    for name, member in ensemble.detectors:
        if not hasattr(member, "partial_fit"):
            raise AttributeError(
                f"its member {name} is a {type(member).__name__}, which cannot learn further images"
            )
    return True


class EnsembleDetector(GrowingDetector, Composition):
    """Let several detectors judge together: their maps are brought to one scale and summed.

    The members learn from the same images, and images that none of them has learnt from
    tell the scale of each one's maps. A memory finds what it has not seen anywhere, a
    subspace what correlates as nothing has: together they are good wherever either is.

    Parameters
    ----------
    detectors : list of (str, detector)
        Names, by which `set_params` reaches the members' parameters (``memory__coreset``),
        and detectors, which are cloned. Of each its maps are used: `image_size`,
        `value_range`, `device` and `n_jobs` are those of the ensemble, whatever a member
        says, and so is how maps become scores and verdicts, their units included.
    combination : {"sum", "norm", "p_value"}
        How maps become one. "sum" is of deviations from the mean of a member's maps of
        normal images, in units of their standard deviation; "norm" is the root of the sum
        of their squares, of those above the mean, so that a member which sees nothing takes
        little from what another sees; "p_value" is the sum of -log p, with p the share of
        such pixels that have higher values, and above the highest an exponential tail.
    detector_weights : sequence of float or None
        Factors of the members' maps; None is 1 for each.

    Attributes
    ----------
    detectors_ : list of detector
        The fitted members.
    member_means_ : ndarray, shape (n_detectors,), float64
        Of each member's maps of normal images, but for p-values.
    member_deviations_ : ndarray, shape (n_detectors,), float64
        Standard deviations of these.
    knots_ : list of ndarray, shape (2, n_knots), float64
        For each member, map values and their -log p, between which it is linear, if
        p-values are summed.

    min_image_size_ : int
        Smallest height and width, in pixels, that can be scored.
    required_size_ : (int, int) or None
        Height and width that images must have; None if `image_size` is set.

    See Also
    --------
    make_ensemble : Makes one without names.

    Notes
    -----
    Members on the same pretrained network and layers share one pass of it when they score.
    Marked defects (`y`) go to the members that learn from such.
    If all members have `partial_fit`, the ensemble has, and `merge_detectors` takes it; the
    scales of members' maps are pooled as units of maps are.

    Examples
    --------
    >>> from skanomaly import EnsembleDetector, PatchCore, SubspaceAD
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> test = make_texture_defects("gravel", split="test", n_normal=2, n_defective=2,
    ...                             random_state=0)
    >>> members = [("memory", PatchCore()), ("subspace", SubspaceAD())]
    >>> detector = EnsembleDetector(members, image_size=128, random_state=0).fit(train.images)
    >>> detector.transform(test.images).shape
    (4, 128, 128)
    """

    detectors: list = parameter(MISSING, list, tuple, kw_only=False)
    combination: str = parameter("sum", StrOptions({"sum", "norm", "p_value"}), affects="scores")
    detector_weights: tuple[float, ...] | None = parameter(
        None, Numbers(Real, 0), None, affects="scores"
    )
    standardize = "position"
    batch_size = 16

    def get_params(self, deep=True):
        """Parameters by name.

        Parameters
        ----------
        deep : bool, default=True
            Also give the members, and their parameters as ``name__parameter``.

        Returns
        -------
        dict
        """
        return self._get_params("detectors", deep=deep)

    def set_params(self, **params):
        """Set parameters.

        Parameters
        ----------
        **params
            Of the ensemble; members by their names; or theirs as ``name__parameter``.

        Returns
        -------
        self
        """
        return self._set_params("detectors", **params)

    def _validate_params(self):
        super()._validate_params()
        self._check_members()

    def _check_members(self):
        if not self.detectors:
            raise ValueError("detectors is empty; pass a list of one or more (name, detector)")
        for item in self.detectors:
            if not isinstance(item, (tuple, list)) or len(item) != 2:
                raise ValueError(
                    f"detectors holds a {type(item).__name__}, expected pairs (name, detector); "
                    "make_ensemble names detectors after their classes"
                )
        names = [name for name, _ in self.detectors]
        self._validate_names(names)
        for name, member in self.detectors:
            if not isinstance(member, BaseImageDetector) or isinstance(member, EnsembleDetector):
                raise ValueError(
                    f"{name} is a {type(member).__name__}; members of an ensemble are detectors of "
                    "images, and no ensembles"
                )
        weights = self.detector_weights
        if weights is not None and len(weights) != len(names):
            raise ValueError(
                f"detector_weights holds {len(weights)} numbers for {len(names)} detectors"
            )
        if weights is not None and not any(weights):
            raise ValueError("detector_weights are all 0; give one detector or more a weight")

    @available_if(_all_grow)
    def partial_fit(self, X, y=None, *, roi=None):
        """Take further normal images into account, if all members can.

        The members learn from them; the scale of each one's maps stays. See the members'
        own for what becomes of the threshold, and of a failure.

        Parameters
        ----------
        X : batch of images
            As for `fit`; one is enough.
        y : None, labels or masks
            As for `fit`.
        roi : array of bool, sequence of such, or None, default=None
            As for `fit`.

        Returns
        -------
        self
        """
        return super().partial_fit(X, y, roi=roi)

    def _learn(self, images):
        self.detectors_ = [member._copied() for member in self.detectors_]
        for member in self.detectors_:
            member._learn_more(images)

    def _absorb(self, others):
        self.detectors_ = [member._copied() for member in self.detectors_]
        for i, member in enumerate(self.detectors_):
            member._take_over([other.detectors_[i] for other in others])

    def _kind_of_state(self):
        found = super()._kind_of_state()
        for (name, _), member in zip(self.detectors, self.detectors_):
            found |= {f"{key} of {name}": kind for key, kind in member._kind_of_state().items()}
        return found

    def _pool_units(self, states):
        super()._pool_units(states)
        weights = n_judged_by(states)
        if self.combination == "p_value":
            of_members = zip(*(state.knots_ for state in states))
            self.knots_ = [pooled_knots(knots, weights) for knots in of_members]
        else:
            moments = [(state.member_means_, state.member_deviations_) for state in states]
            self.member_means_, self.member_deviations_ = pooled_moments(moments, weights)

    def _learns_from(self, has_masks):
        return any(member._learns_from(has_masks) for _, member in self.detectors)

    def _fit_images(self, images, validation, defects=None):
        self.n_images_ = len(images)
        self.detectors_ = []
        for _, member in self.detectors:
            fitted = clone(member).set_params(**self._shared_parameters())
            if fitted.random_state is None:
                fitted.random_state = int(torch.randint(2**31 - 1, ()))
            fitted.n_channels_in_ = self.n_channels_in_
            fitted._validate_params()
            fitted._learnt_from(images, validation, defects)
            self.detectors_.append(fitted)
        smallest = [getattr(d, "min_image_size_", 1) for d in self.detectors_]
        self.min_image_size_ = max(smallest)
        sizes = [getattr(d, "required_size_", None) for d in self.detectors_]
        self.required_size_ = next((size for size in sizes if size is not None), None)

    def _shared_parameters(self):
        names = ("image_size", "value_range", "device", "n_jobs")
        return {name: getattr(self, name) for name in names}

    def _compute_maps(self, pixels):
        maps, levels = [], {}
        for member in self.detectors_:
            if not hasattr(member, "_maps_of_features"):
                maps.append(joined(member._compute_maps(pixels)))
                continue
            network = member.encoder_.network.digest
            if network not in levels:
                levels[network] = member.encoder_(pixels)
            maps.append(joined(member._maps_of_features(levels[network])))
        return tuple(maps)

    def _set_units(self, maps, regions, provisional=False):
        if self.combination == "p_value":
            self._find_knots(maps, regions)
        else:
            self._find_scales(maps, regions)
        return super()._set_units(maps, regions, provisional)

    def _find_scales(self, maps, regions):
        moments = [MapMoments(per_position=False) for _ in self.detectors_]
        for of_members, _, of_batch in with_regions(maps, regions):
            for own, phi in zip(moments, of_members):
                self._require_finite(phi, regions.indices[own.n_images :])
                own.add(phi, of_batch)
        found = [own.mean_and_deviation() for own in moments]
        self.member_means_, self.member_deviations_ = np.array(found, float).reshape(-1, 2).T

    def _find_knots(self, maps, regions):
        values = [[] for _ in self.detectors_]
        for of_members, _, of_batch in with_regions(maps, regions):
            for own, phi in zip(values, of_members):
                own.append(phi[weights_of(of_batch, phi) > 0.5].cpu().numpy())
        self.knots_ = [knots_of(np.concatenate(own)) for own in values]

    def _combined(self, maps):
        if self.combination == "p_value":
            maps = [
                log_rarity(phi.float(), knots) for phi, knots in zip(maps, self.knots_, strict=True)
            ]
        else:
            found = zip(maps, self.member_means_, self.member_deviations_, strict=True)
            maps = [(phi.float() - float(m)) / float(s) for phi, m, s in found]
        weights = self.detector_weights or [1.0] * len(maps)
        maps = [float(w) * phi for w, phi in zip(weights, maps)]
        if self.combination == "norm":
            return joined([phi.clamp(min=0).square() for phi in maps]).sqrt()
        return joined(maps)

    def _parameters_that_affect(self, *what):
        found = super()._parameters_that_affect(*what)
        if found.pop("detectors", None):
            found["detectors"] = [[name, type(member).__name__] for name, member in self.detectors]
        for name, member in self.detectors:
            own = member._parameters_that_affect(*({*what} - {"scores", "threshold"}))
            for not_used in (*self._shared_parameters(), "standardize"):
                own.pop(not_used, None)
            found |= {f"{name}__{key}": value for key, value in own.items()}
        return found

    def _modules_fitted(self):
        return [module for d in self.detectors_ for module in d._modules_fitted()]

    def _prepare_export(self):
        for member in self.detectors_:
            member._prepare_export()

    @property
    def _holds_out_in_turn(self):
        return all(member._holds_out_in_turn for _, member in self.detectors)

    @property
    def _models_positions(self):
        return any(member._models_positions for _, member in self.detectors)

    @property
    def _not_exportable(self):
        reasons = ((name, getattr(d, "_not_exportable", None)) for name, d in self.detectors)
        return next((f"of its member {name}: {reason}" for name, reason in reasons if reason), None)


def make_ensemble(*detectors, **parameters):
    """An `EnsembleDetector` of detectors that are named after their classes; or one to start with.

    Parameters
    ----------
    *detectors : detectors of images
        None at all is what to try first where nothing is known: a memory and a subspace of the
        same features, and the contrast of pixels, fitted in seconds.
    **parameters
        Of the `EnsembleDetector`.

    Returns
    -------
    EnsembleDetector

    Notes
    -----
    What to start with has a `PatchCore` and a `SubspaceAD` on the layers (1, 2, 3), each the mean
    over 5 x 5 positions, 4,000 patches of up to 60,000, and a `LocalContrast`, for spots that are
    smaller than a position; ``combination="norm"``, ``detector_weights=(4.0, 1.0, 1.0)``,
    ``smoothing=3.0`` and ``score_reduction=0.001``. All this was chosen on the test images of the
    development categories (bottle, grid, leather, magnetic tiles, two kinds of paper).

    Examples
    --------
    >>> from skanomaly import PaDiM, PatchCore, make_ensemble
    >>> [name for name, _ in make_ensemble(PatchCore(), PaDiM()).detectors]
    ['patchcore', 'padim']
    >>> [name for name, _ in make_ensemble(random_state=0).detectors]
    ['memory', 'subspace', 'contrast']
    """
    if not detectors:
        return _to_start_with(**parameters)
    for detector in detectors:
        if not isinstance(detector, BaseImageDetector):
            raise ValueError(
                "make_ensemble takes detectors one by one, as in make_ensemble(PatchCore(), "
                f"PaDiM()), not {detector!r:.60}"
            )
    names = [type(d).__name__.lower() for d in detectors]
    counts, seen = Counter(names), Counter()
    for i, name in enumerate(names):
        if counts[name] > 1:
            seen[name] += 1
            names[i] = f"{name}-{seen[name]}"
    return EnsembleDetector(list(zip(names, detectors)), **parameters)


def _to_start_with(**parameters):
    shared = {"layers": (1, 2, 3), "neighborhood": 5}
    members = [
        ("memory", PatchCore(**shared, coreset=4_000, max_candidates=60_000)),
        ("subspace", SubspaceAD(**shared)),
        ("contrast", LocalContrast()),
    ]
    found = {"combination": "norm", "detector_weights": (4.0, 1.0, 1.0)}
    found |= {"smoothing": 3.0, "score_reduction": 0.001} | parameters
    return EnsembleDetector(members, **found)


def knots_of(values):
    """Where -log p of map values is known, from those of normal images: (2, n_knots).

    They are evenly spaced in -log p, as far as the values tell.
    """
    values = np.sort(values[:: 1 + len(values) // MAX_PIXELS].astype(np.float64))
    n = len(values)
    levels = np.linspace(0, np.log(n), N_KNOTS)
    above = np.exp(-levels) * n  # values at or above each knot
    points = values[np.clip(np.round(n - above).astype(int), 0, n - 1)]
    points, first = np.unique(points, return_index=True)
    if len(points) == 1:  # normal maps do not differ
        return np.array([[points[0], points[0] + 1], [0, 1]])
    return np.stack([points, levels[first]])


def pooled_knots(knots, weights):
    """The knots of all normal images, from those of parts of them, each of a weight."""
    points = np.unique(np.concatenate([of_part[0] for of_part in knots]))
    rarities = [log_rarity(torch.from_numpy(points), of_part).numpy() for of_part in knots]
    levels = -np.log(np.average(np.exp(-np.array(rarities)), axis=0, weights=weights))
    even = np.linspace(levels[0], levels[-1], N_KNOTS)
    points, first = np.unique(np.interp(even, levels, points), return_index=True)
    return np.stack([points, even[first]])


def log_rarity(phi, knots):
    """-log p of map values: linear between the knots and, as of an exponential tail, beyond."""
    points, levels = (torch.from_numpy(k).float().to(phi.device) for k in knots)
    slopes = (levels.diff() / points.diff()).clamp(max=1e6)
    changes = slopes.diff(prepend=slopes.new_zeros(1))
    rarity = levels[0].expand_as(phi)
    for point, change in zip(points[:-1], changes):
        rarity = rarity + change * (phi - point).clamp(min=0)
    return rarity

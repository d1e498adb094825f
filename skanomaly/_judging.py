"""What normal images that were not learnt from decide: units of maps, and thresholds."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch

from ._holdout import warn_of_few, warn_of_one
from ._map_units import KeptMaps, MapMoments, in_units, joined, with_regions
from ._parameters import equal_values
from .calibration import quantile_of_new
from .exceptions import NonFiniteMapError
from .images import Regions

# The oldest give way, so that a stream without end needs no memory without end.
MAX_SCORES_KEPT = 10_000


class JudgesByNormals:
    """The part of `BaseImageDetector` that sets the units of its maps and its thresholds.

    From the maps of normal images that were not learnt from, `map_mean_` and `map_deviation_`
    are found, and in these units `validation_scores_`, `validation_maxima_`, `offset_` and
    `map_threshold_`. The other parts call ``_kept_maps`` with ``_judge_by``,
    ``_add_validation``, ``_set_thresholds`` and ``_in_units``.
    """

    def _judge_by(self, maps, regions, provisional=False):
        """Set units of maps and thresholds from normal images that were not learnt from.

        `maps` are theirs as the method gives them, pairs (maps, the images' own sizes), and
        are gone through several times.
        """
        self.is_provisional_ = False
        self._add_validation(self._set_units(maps, regions, provisional), regions, provisional)

    def _set_units(self, maps, regions, provisional=False):
        """Set the units of maps; the same maps in units that each has no part in."""
        if self.standardize is not None:
            moments = MapMoments(self.standardize == "position" and not provisional)
            for phi, _, of_batch in with_regions(self._all_combined(maps), regions):
                phi = joined(phi)
                self._require_finite(phi, regions.indices[moments.n_images :])
                moments.add(phi, of_batch)
            self.map_mean_, self.map_deviation_ = moments.mean_and_deviation()
        batches = self._all_combined(maps)
        if self.standardize == "position" and not provisional:
            found = with_regions(batches, regions)
            return (
                (self._sided(moments.left_out(joined(phi), own)), sizes)
                for phi, sizes, own in found
            )
        return ((self._in_units(phi), sizes) for phi, sizes in batches)

    def _all_combined(self, maps):
        return ((self._combined(phi), sizes) for phi, sizes in maps)

    def _kept_maps(self, images, batches=None):
        """Maps of images, as the method gives them, which it may have given already."""
        anew = partial(self._raw_map_batches, images)
        return KeptMaps(anew() if batches is None else batches, anew)

    def _add_validation(self, batches, regions, provisional=False):
        """Set the thresholds from the maps of images not learnt from, beside earlier ones."""
        found = ((score, m.max()) for m, score in self._assembled(batches, regions))
        scores, maxima = np.array(list(found), dtype=float).T
        none = np.empty(0)
        for name, new in (("validation_scores_", scores), ("validation_maxima_", maxima)):
            earlier = none if self.is_provisional_ else getattr(self, name, none)
            setattr(self, name, np.append(earlier, new)[-MAX_SCORES_KEPT:])
        self.is_provisional_ = provisional
        self._set_thresholds()

    def _set_thresholds(self):
        rate = self.false_alarm_rate
        self.offset_ = quantile_of_new(self.validation_scores_, rate)
        self.map_threshold_ = -quantile_of_new(-self.validation_maxima_, rate)
        self.fitted_parameters_ = copy.deepcopy(self._parameters_that_affect("maps", "scores"))
        warn = warn_of_one if self.is_provisional_ else warn_of_few
        warn(len(self.validation_scores_), rate)

    def _require_finite(self, maps, indices):
        for phi, index in zip(maps, indices):
            if not torch.isfinite(phi).all():
                raise NonFiniteMapError(
                    f"the map that {type(self).__name__} gives of it is not finite; the "
                    "detector's state is damaged, or the image lies far outside what it was "
                    "fitted on: fit anew",
                    index=int(index),
                )

    def _raw_map_batches(self, images):
        """Maps as the method gives them, and the images' own sizes."""
        return self._batches_through(self._compute_maps, images)

    def _combined(self, maps):
        """What is standardised of the maps that the method gives."""
        return maps

    def _in_units(self, maps):
        if self.standardize is None:
            return maps
        return self._sided(in_units(maps, self.map_mean_, self.map_deviation_))

    def _sided(self, deviations):
        """What counts of deviations from the mean: those above it, unless a method says more."""
        return deviations

    def _judge_anew(self, X, roi):
        images = self._open(X)
        regions = Regions.given(roi, images.X)
        self.validation_scores_ = self.validation_maxima_ = np.empty(0)
        self._judge_by(self._kept_maps(images), regions)

    def _check_parameters(self, what):
        for name, value in self._parameters_that_affect(what).items():
            before = self.fitted_parameters_.get(name, value)
            if not equal_values(value, before):
                self._validate_params()  # a value that can never be used is the first thing to say
                way_out = (
                    "fit anew" if what == "maps" else "call calibrate with normal images, fit anew"
                )
                raise ValueError(
                    f"{name} of {type(self).__name__} is {value!r} and was {before!r} when the "
                    f"threshold was set; {way_out}, or set it back"
                )

    def _parameters_that_affect(self, *what):
        """Values of the parameters that are declared to affect one of these, by name."""
        names = sorted(name for name, affected in self._affects.items() if affected in what)
        return {name: getattr(self, name) for name in names}

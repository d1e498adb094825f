"""Artificial defects, drawn onto images of good parts: region x texture x opacity.

A defect is a region of irregular shape (a signed distance in pixels, positive
inside, on a coordinate frame that smooth noise deforms), filled with a surface,
at an opacity. Numbers are drawn image by image from each image's own seed;
pixels are computed for all regions of a batch at once, on the images' device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator

from .._parameters import DeclaredParameters
from ._regions import SIGNED_DISTANCE, Regions
from ._sketch import sketch
from ._surfaces import SURFACES
from ._types import CORRUPTION_TYPES, DEFECT_TYPES

# Below this opacity a defect's rim cannot be seen; it is neither drawn nor masked.
LEAST_OPACITY = 0.1


class Defects(NamedTuple):
    """Images with drawn defects."""

    images: torch.Tensor  #: (n, C, H, W), float32 in [0, 1], as they were outside the masks
    masks: torch.Tensor  #: (n, H, W), bool, True where the defect is
    types: list  #: (n,), the name of each image's type of defect


class DefectGenerator(DeclaredParameters, BaseEstimator):
    """Draw artificial defects onto images.

    Parameters
    ----------
    types : sequence of str or None
        Out of the keys of `CORRUPTION_TYPES` and `DEFECT_TYPES`. None means all
        of `CORRUPTION_TYPES`: elastically deformed ellipses, polygons, branching
        strokes and thresholded noise, filled with another image, procedural
        noise, a plain colour or a tint of what lies below.
    n_regions : (int, int) or None
        Fewest and most regions an image, at least 1; None means the type's own.
    opacity : (float, float) or None
        Range of opacities, within [0, 1]; None means the type's own. What is
        less opaque than 0.1 cannot be seen and is neither drawn nor masked.
    size : float
        Factor on the lengths of all regions.
    texture_images : batch of images, path or None
        Where the texture "image" comes from: images as `BaseImageDetector.fit`
        takes them, or a folder, whose sub-folders count. Detectors read them;
        to `draw` they are given as `sources`. None means other training images.

    Notes
    -----
    A region is where a signed distance, taken on coordinates that smooth noise
    deforms, is positive. Its type and its numbers come from a seed an image, so
    that neither the batch nor the device changes them. With opacity a, which falls
    off over the region's rim, an image x shows (1 - a) x + a t, with t the texture.

    Examples
    --------
    >>> import torch
    >>> from skanomaly.synthesis import DefectGenerator
    >>> images = torch.full((2, 1, 64, 64), 0.5)
    >>> defects = DefectGenerator(types=["scratch", "stain"]).draw(images, seeds=[0, 1])
    >>> defects.images.shape, defects.masks.any(dim=(1, 2)).tolist()
    (torch.Size([2, 1, 64, 64]), [True, True])
    """

    types: Sequence[str] | None = None
    n_regions: tuple[int, int] | None = None
    opacity: tuple[float, float] | None = None
    size: float = 1.0
    texture_images: object = None

    def draw(self, images, seeds, sources=None):
        """Draw one type of defect onto each image.

        Parameters
        ----------
        images : tensor, shape (n, C, H, W), float32 in [0, 1]
        seeds : sequence of int, length n
            Equal seeds draw equal defects on images of one size.
        sources : tensor, shape (n, C, H, W), float32 in [0, 1], or None, default=None
            What the textures "image" and "material" (of the type "foreign") are cut
            from, image by image. None means the image before it in the batch.

        Returns
        -------
        Defects
            On the images' device.
        """
        types = self._types()
        self._check_ranges()
        sources = images.roll(1, 0) if sources is None else sources
        sketches = [sketch(self, types, images.shape[1:], int(seed)) for seed in seeds]
        names = [name for name, _ in sketches]
        regions = Regions([rows for _, rows in sketches], images.shape[2:], images.device)
        images, masks = _paint(images, sources, regions)
        return Defects(images, masks, names)

    def _types(self):
        known = {**CORRUPTION_TYPES, **DEFECT_TYPES}
        names = list(CORRUPTION_TYPES) if self.types is None else list(self.types)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(f"types must be out of {sorted(known)}, got {self.types!r}")
        return {name: known[name] for name in names}

    def _check_ranges(self):
        for name, least, most in (("n_regions", 1, np.inf), ("opacity", 0, 1)):
            value = getattr(self, name)
            if value is not None and not least <= value[0] <= value[1] <= most:
                raise ValueError(
                    f"{name} must be (low, high) with {least} <= low <= high <= {most}, "
                    f"got {value!r}"
                )
        if not self.size > 0:
            raise ValueError(f"size must be above 0, got {self.size!r}")


def _paint(images, sources, regions):
    """Blend every region into its image, in the order in which they were drawn."""
    painted, masks = images.clone(), torch.zeros_like(images[:, 0], dtype=torch.bool)
    for rank in range(regions.rank.max() + 1):
        for shape, texture in sorted(set(zip(regions.shape, regions.texture))):
            chosen = (regions.rank == rank) & (regions.shape == shape)
            chosen &= regions.texture == texture
            if not chosen.any():
                continue
            part = regions.choose(chosen)
            image = torch.as_tensor(part.image, device=images.device)
            below = painted[image]
            distance = SIGNED_DISTANCE[shape](part)  # (R, H, W)
            surface = SURFACES[texture](below, sources[image], part, distance)
            opacity = (distance / part.rim[:, None, None] + 0.5).clamp(0, 1)
            opacity = opacity * part.opacity[:, None, None]
            opacity = opacity.where(opacity >= LEAST_OPACITY, 0)
            painted[image] = below + opacity[:, None] * (surface.clamp(0, 1) - below)
            masks[image] |= opacity > 0
    return painted, masks

"""PatchCore: Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler, arXiv 2106.08265."""

from __future__ import annotations

import copy
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F

from .._parameters import parameter
from .._sklearn import Interval, RealNotInt, StrOptions
from ..features import PatchBank, as_rows, on_finest_grid
from ._one_pass_detector import OnePassDetector

# Among which what is kept is dealt out, for a memory that stands defects in the training images.
N_MEMORIES = 16


class PatchCore(OnePassDetector):
    """Detect defects as pretrained patch features that are far from all those of good parts.

    What good parts' patches look like to a pretrained network is kept in a memory, of
    those patches that leave none of the others far from a kept one; the distance of a
    patch to the nearest in the memory is the map [1]_. Nothing is trained.

    With ``metric="cosine"``, ``layers`` the last block of a vision transformer and
    ``score_reduction=0.01`` it is AnomalyDINO [2]_.

    Parameters
    ----------
    layers : sequence of int
        Levels of the pyramid; coarser ones are interpolated on the finest's grid. The
        paper's are (2, 3).
    coreset : float in (0, 1] or int
        Share of the training images' patches that is kept, or their number. The
        paper's is 0.1, 0.01 in its fastest form.
    n_neighbors : int
        Nearest patches whose distances are averaged; the paper's is 1.
    reweight : bool
        Multiply each distance, to one neighbour in one memory, by the paper's weight, which
        is low where the nearest patch lies in a dense part of the memory, see
        :meth:`~skanomaly.features.PatchBank.reweighted_distances`. The paper does so for an
        image's highest distance, its authors' program not at all; here each patch has its
        own, so that regions of interest hold for it too.
    metric : {"euclidean", "cosine"}
        Distance of features.
    scale_levels : bool
        Bring each level to a total variance of one, as told by up to 64 of the training
        images, before they are joined. The paper does not.
    neighborhood : int
        Side of the square of positions whose features are averaged; the paper's.
    pool_levels : bool
        Average them on each level's own grid, as the paper does, which on the coarser
        ones takes in much more of the image, rather than on the finest one's.
    n_rotations : int
        Directions from which each training image is looked at, for few images of parts
        or textures that may lie in any.
    robust : bool
        Deal what is kept, drawn at random, out to 16 memories and average the distances
        to the nearest in each [3]_, so that a few defects among the training images do not
        pass for normal.
    max_candidates : int
        Patches among which `coreset` chooses, a uniform sample where there are more.

    Attributes
    ----------
    bank_ : PatchBank
        The patches that are kept.
    scale_ : ndarray, shape (n_features,), float32
        What features are divided by.

    Notes
    -----
    A fit holds up to `max_candidates` features of 4 bytes a channel, at most three times
    over: .5 GB with the defaults. It is reproducible whatever `batch_size` and `n_jobs`,
    and distances are exact: each is that to the nearest patch, up to the rounding of
    single precision.

    References
    ----------
    .. [1] K. Roth, L. Pemula, J. Zepeda, B. Schoelkopf, T. Brox, P. Gehler, "Towards Total
           Recall in Industrial Anomaly Detection", CVPR 2022, arXiv:2106.08265.
    .. [2] S. Damm, M. Laszkiewicz, J. Lederer, A. Fischer, "AnomalyDINO: Boosting
           Patch-based Few-shot Anomaly Detection with DINOv2", WACV 2025,
           arXiv:2405.14529.
    .. [3] "MeDS", ICML 2026, arXiv:2605.26676.

    Examples
    --------
    >>> from skanomaly import PatchCore
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, random_state=0)
    >>> test = make_texture_defects("gravel", split="test", n_normal=2, n_defective=2,
    ...                             random_state=0)
    >>> detector = PatchCore(image_size=128, random_state=0).fit(train.images)
    >>> detector.transform(test.images).shape
    (4, 128, 128)
    """

    layers = (2, 3)
    coreset: float | int = parameter(
        0.1, Interval(RealNotInt, 0, 1, closed="right"), Interval(Integral, 1, None, closed="left")
    )
    n_neighbors: int = parameter(1, Interval(Integral, 1, None, closed="left"))
    reweight: bool = parameter(False, "boolean")
    metric: str = parameter("euclidean", StrOptions({"euclidean", "cosine"}))
    scale_levels: bool = parameter(True, "boolean")
    neighborhood: int = parameter(3, Interval(Integral, 1, None, closed="left"))
    pool_levels: bool = parameter(False, "boolean")
    n_rotations: int = parameter(1, Interval(Integral, 1, None, closed="left"))
    robust: bool = parameter(False, "boolean")
    max_candidates: int = parameter(250_000, Interval(Integral, 1, None, closed="left"))

    _small_parameters = {"coreset": 300}
    _grown = ("bank_", "scale_")

    def _begin(self, images, validation):
        if self.reweight and (self.robust or self.n_neighbors > 1):
            raise ValueError(
                "reweight=True is a weight of the one nearest patch in one memory; leave robust at "
                "False and n_neighbors at 1"
            )
        self.scale_ = self._find_scale(images)
        self.bank_ = None

    def _learn(self, images):
        self._place(self._device)
        rows = self._row_batches(images)
        seed = int(torch.randint(2**31, ()))
        if self.bank_ is None:
            self.bank_ = PatchBank(
                self.coreset,
                "random" if self.robust else "k_center",
                self.n_neighbors,
                metric=self.metric,
                n_memories=N_MEMORIES if self.robust else 1,
                max_candidates=self.max_candidates,
            ).fit(rows, seed)
        else:
            self.bank_.update(rows, seed)
        self._settle()

    def _settle(self):
        if self.reweight:
            self.bank_.find_neighborhoods()

    def _absorb(self, others):
        scale = np.mean([d.scale_ for d in (self, *others)], axis=0)
        banks = [self.bank_, *(copy.deepcopy(other.bank_) for other in others)]
        for detector, bank in zip((self, *others), banks):
            bank.rescale(detector.scale_ / scale)
        self.scale_ = scale
        self.bank_.absorb(banks[1:], int(torch.randint(2**31, ())))
        self._settle()

    def _maps_of_features(self, levels):
        f = self._joined(levels)
        rows, bank = self._scaled(as_rows(f)), self.bank_
        distances = bank.reweighted_distances(rows) if self.reweight else bank.distances(rows)
        return distances.view(f.shape[0], *f.shape[2:])

    def _joined(self, levels):
        return on_finest_grid(levels, self.neighborhood, self.pool_levels)

    def _scaled(self, rows):
        if self.scale_.shape != rows.shape[1:]:
            raise ValueError("the features' scale is damaged: fit anew")
        return rows / torch.from_numpy(self.scale_).to(rows.device)

    def _find_scale(self, images):
        if not self.scale_levels:
            return np.ones(sum(self.encoder_.channels), np.float32)
        return self._scales_of(images, self._joined)

    def _row_batches(self, images):
        """Scaled features, image by image, of each in all directions."""
        for pixels, _ in images.batches(self.batch_size, self.n_jobs):
            turned = []
            for i in range(self.n_rotations):
                with torch.inference_mode():
                    levels = self.encoder_(rotated(pixels.to(self._device), i / self.n_rotations))
                    turned.append(self._joined(levels))
            for of_image in zip(*turned):
                yield self._scaled(as_rows(torch.stack(of_image)))


def rotated(pixels, turns):
    """Images (n, C, H, W) turned about their middle, mirrored beyond their borders.

    Parameters
    ----------
    pixels : tensor
    turns : float
        Share of a full turn. Halves are exact, and quarters where height and width are equal.

    Returns
    -------
    tensor of that shape
    """
    height, width = pixels.shape[2:]
    if (2 * turns).is_integer() or ((4 * turns).is_integer() and height == width):
        return torch.rot90(pixels, round(4 * turns), (2, 3))
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    # In units of half the image, in which a pixel is not square unless the image is.
    theta = [[cos, -sin * height / width, 0], [sin * width / height, cos, 0]]
    theta = pixels.new_tensor(theta).expand(len(pixels), 2, 3)
    grid = F.affine_grid(theta, pixels.shape, align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)

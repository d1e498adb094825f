"""How much each image differs from the others, by what has not learnt from it."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.base import clone
from sklearn.utils import Bunch

from .._device import resolve_device
from .._holdout import hold_out_in_turn
from ..base import BaseImageDetector
from ..exceptions import InvalidImageError, ThresholdWarning
from ..features import FeaturePyramid, as_rows, on_finest_grid
from ..images import ImageDataset, ImageFiles
from ..maps import assemble_maps

# Without a detector: images are looked at as by PatchCore, ...
BACKBONE, LAYERS, NEIGHBORHOOD, IMAGE_SIZE, SMOOTHING = "tf_efficientnet_lite0", (2, 3), 3, 256, 4.0
# ... and this is what its memories hold together, and how many there are at most.
MAX_PATCHES, N_MEMORIES = 20_000, 8

# Images that scales of levels are told by, side of the maps that are kept, images at once,
# and distances that are held at a time.
N_FOR_SCALE, MAP_SIDE, BATCH_SIZE, MAX_ELEMENTS = 64, 32, 16, 2**22

# A Gaussian's deviation in units of its median absolute deviation, and the least of maps.
PER_MAD, LEAST_DEVIATION = 1.482602, 1e-6


def score_by_patches(X, chosen, group, random_state, *, value_range, device, n_jobs):
    """Scores by the distance of patches to those of images of other groups.

    Parameters
    ----------
    X : sequence
    chosen : ndarray of int, shape (n,)
        The images that can be used.
    group : ndarray of int, shape (n,)
        Of each of them; two groups or more.
    random_state : RandomState
    value_range, device, n_jobs : as for `audit_images`

    Returns
    -------
    Bunch
        scores, (n,), higher = more normal, and maps, (n, MAP_SIDE, MAP_SIDE).
    """
    images = ImageDataset(_subset(X, chosen), image_size=IMAGE_SIZE, value_range=value_range)
    encoder = FeaturePyramid(BACKBONE, LAYERS, n_channels=images.n_channels)
    device = resolve_device(device)
    features = encoder.to(device).extract(images, BATCH_SIZE, n_jobs)
    size = features.levels[0].shape[2:]
    rows = PatchRows(features)
    memory = LeaveOutMemory(rows, group, random_state)
    maps = [memory.distances(rows[i], group[i], device).view(size) for i in range(len(rows))]
    return _scored(_in_units_of_others(torch.stack(maps).numpy()))


class PatchRows:
    """The features of each image's positions, as rows (h * w, d), by number of the image.

    Parameters
    ----------
    features : FeatureDataset
        Its levels are brought to a total variance of one before they are joined.
    """

    def __init__(self, features):
        self.features, self.scale = features, 1.0
        some = np.unique(np.linspace(0, len(features) - 1, N_FOR_SCALE).astype(int))
        rows = torch.cat([self[i] for i in some.tolist()]).double()
        parts = rows.var(dim=0, correction=0).split([f.shape[1] for f in features.levels])
        scales = [part.sum().clamp(min=1e-12).sqrt().expand(len(part)) for part in parts]
        self.scale = torch.cat(scales).float()

    def __len__(self):
        return len(self.features)

    def __getitem__(self, i):
        levels = [f[i : i + 1] for f in self.features.levels]
        return as_rows(on_finest_grid(levels, NEIGHBORHOOD)) / self.scale


class LeaveOutMemory:
    """Patches of all images, and how far others lie from those of other groups.

    As many patches of each image, drawn at random, `MAX_PATCHES` together. Groups are dealt
    out to several memories of two groups or more, so that each holds some of another group.

    Parameters
    ----------
    rows : sequence of tensor, each (n_patches, d)
        Of each image.
    group : ndarray of int, shape (n,)
    random_state : RandomState
    """

    def __init__(self, rows, group, random_state):
        groups, group_number = np.unique(group, return_inverse=True)
        n_memories = max(1, min(N_MEMORIES, len(groups) // 2))
        dealt = np.empty(len(groups), int)
        dealt[random_state.permutation(len(groups))] = np.arange(len(groups)) % n_memories
        of_image = dealt[group_number]
        n_each = max(1, MAX_PATCHES // len(rows))
        patches, owners, sizes = [], [], []
        for memory in range(n_memories):
            images = np.flatnonzero(of_image == memory)
            for i in images.tolist():
                own = rows[i]
                drawn = random_state.permutation(len(own))[:n_each]
                patches.append(own[torch.from_numpy(np.sort(drawn))])
                owners.append(np.full(len(drawn), group[i]))
            sizes.append(sum(map(len, patches)) - sum(sizes))
        self.patches, self.sizes = torch.cat(patches), sizes
        self.owners = torch.from_numpy(np.concatenate(owners))
        self.half_squares = self.patches.square().sum(dim=1) / 2

    def distances(self, queries, group, device="cpu"):
        """Mean over the memories of the distance to the nearest patch of another group.

        Parameters
        ----------
        queries : tensor, shape (m, d)
        group : int
            Whose patches are left out.
        device : torch.device, default="cpu"
            Where to compute.

        Returns
        -------
        tensor, shape (m,), on the CPU
        """
        self._move(device)
        queries = queries.to(device)
        others = self.half_squares.masked_fill(self.owners == group, torch.inf)
        found = []
        for part in queries.split(max(1, MAX_ELEMENTS // len(others))):
            half = torch.addmm(others, part, self.patches.T, alpha=-1)
            nearest = torch.stack([own.argmin(dim=1) for own in half.split(self.sizes, dim=1)])
            starts = np.cumsum([0, *self.sizes[:-1]])
            nearest += torch.from_numpy(starts).to(device)[:, None]
            found.append((part - self.patches[nearest]).norm(dim=2).mean(dim=0))
        return torch.cat(found).cpu()

    def _move(self, device):
        for name in ("patches", "owners", "half_squares"):
            setattr(self, name, getattr(self, name).to(device))


def score_by_detector(detector, X, chosen, group, cv, random_state):
    """Scores by clones that were each fitted without the images that it then scores.

    Parameters
    ----------
    detector : estimator
    X, chosen, group, random_state
        As for `score_by_patches`.
    cv : int
        Shares of the groups that are left out in turn.

    Returns
    -------
    Bunch
        scores, (n,), and maps, (n, MAP_SIDE, MAP_SIDE) or None.
    """
    scores, maps = np.empty(len(chosen)), None
    is_own = isinstance(detector, BaseImageDetector)
    if is_own:
        maps = np.empty((len(chosen), MAP_SIDE, MAP_SIDE), np.float32)
    for fold in hold_out_in_turn(len(chosen), 1 / cv, group, random_state):
        rest = np.setdiff1d(np.arange(len(chosen)), fold)
        fitted = clone(detector)
        with _naming(chosen[rest]), warnings.catch_warnings():
            warnings.simplefilter("ignore", ThresholdWarning)  # no verdict is asked for
            more = {"groups": group[rest]} if is_own else {}
            fitted.fit(_subset(X, chosen[rest]), **more)
        for start in range(0, len(fold), BATCH_SIZE):
            part = fold[start : start + BATCH_SIZE]
            with _naming(chosen[part]):
                if not is_own:
                    scores[part] = fitted.score_samples(_subset(X, chosen[part]))
                    continue
                found = fitted.detect(_subset(X, chosen[part]))
            scores[part] = found.scores
            maps[part] = np.concatenate([_small(torch.from_numpy(phi)[None]) for phi in found.maps])
    return Bunch(scores=scores, maps=maps)


def _subset(X, chosen):
    return X[chosen] if isinstance(X, ImageFiles) else [X[i] for i in chosen.tolist()]


@contextmanager
def _naming(chosen):
    """Have errors name the image by its number in the whole."""
    try:
        yield
    except InvalidImageError as error:
        if error.index is None:
            raise
        index = int(chosen[error.index])
        raise type(error)(error.reason, index=index, path=error.path) from error


def _in_units_of_others(maps):
    """Maps (n, h, w) in robust deviations from the median of all at each position, smoothed."""
    median = np.median(maps, axis=0)
    deviation = PER_MAD * np.median(np.abs(maps - median), axis=0)
    # A few images hardly tell a position's deviation, which is drawn to the mean of all.
    deviation = (ndimage.gaussian_filter(deviation, 1) + deviation.mean()) / 2
    return (maps - ndimage.gaussian_filter(median, 1)) / np.maximum(deviation, LEAST_DEVIATION)


def _scored(maps):
    scores, small = [], []
    for part in torch.from_numpy(maps).split(BATCH_SIZE):
        finished = assemble_maps(
            part, (IMAGE_SIZE, IMAGE_SIZE), (IMAGE_SIZE, IMAGE_SIZE), SMOOTHING
        )
        scores.append(-finished.amax(dim=(1, 2)).double().numpy())
        small.append(_small(finished))
    return Bunch(scores=np.concatenate(scores), maps=np.concatenate(small))


def _small(maps):
    return F.adaptive_max_pool2d(maps[:, None].float(), MAP_SIDE)[:, 0].numpy()

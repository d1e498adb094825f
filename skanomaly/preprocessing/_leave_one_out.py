"""How much each image differs from the others, by what has not learnt from it."""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.stats import median_abs_deviation
from sklearn.base import clone
from sklearn.utils import Bunch

from .._device import resolve_device
from .._holdout import hold_out_in_turn
from .._image_detector import ImageDetector
from ..exceptions import InvalidImageError, ThresholdWarning
from ..features import FeaturePyramid, as_rows, on_finest_grid
from ..images import ImageDataset, ImageFiles
from ..maps import assemble_maps

# Without a detector: images are looked at as by PatchCore, ...
BACKBONE, LAYERS, NEIGHBORHOOD, IMAGE_SIZE, SMOOTHING = "tf_efficientnet_lite0", (2, 3), 3, 256, 4.0
# ... and so many patches of all of them are what they are compared with.
MAX_PATCHES = 10_000

# Images that scales of levels are told by, side of the maps that are kept, images at once,
# and distances that are held at a time.
N_FOR_SCALE, MAP_SIDE, BATCH_SIZE, MAX_ELEMENTS = 64, 32, 16, 2**22

# Images' worth of weight that the mean deviation has beside that of a position, and the least
# deviation that counts.
PRIOR_IMAGES, LEAST_DEVIATION = 10, 1e-6


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
    memory = LeaveOutMemory(rows, group, random_state, MAX_PATCHES).to(device)
    maps = [memory.distances(rows[i], group[i]).view(size) for i in range(len(rows))]
    return _scored(_in_usual_units(torch.stack(maps).numpy()))


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
        return as_rows(on_finest_grid(levels, NEIGHBORHOOD, each_level=True)) / self.scale


class LeaveOutMemory:
    """Patches of all images, and how far others lie from those of other groups.

    Parameters
    ----------
    rows : sequence of tensor, each (n_patches, d)
        Of each image, of which as many are drawn at random; `max_patches` together, or one of
        each where there are more images.
    group : ndarray of int, shape (n,)
    random_state : RandomState
    max_patches : int
    """

    def __init__(self, rows, group, random_state, max_patches):
        n_each = max(1, max_patches // len(rows))
        patches, owners = [], []
        for i in range(len(rows)):
            own = rows[i]
            drawn = np.sort(random_state.permutation(len(own))[:n_each])
            patches.append(own[torch.from_numpy(drawn)])
            owners.append(np.full(len(drawn), group[i]))
        self.patches, self.owners = torch.cat(patches), torch.from_numpy(np.concatenate(owners))
        self.mean = self.patches.mean(dim=0)  # without it squares are larger, and round more
        self.half_squares = (self.patches - self.mean).square().sum(dim=1) / 2

    def to(self, device):
        """Move it to where distances are to be computed."""
        for name in ("patches", "owners", "mean", "half_squares"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def distances(self, queries, group):
        """Distance of each query to the nearest patch of another group.

        Parameters
        ----------
        queries : tensor, shape (m, d)
        group : int
            Whose patches are left out.

        Returns
        -------
        tensor, shape (m,), on the CPU
        """
        queries = queries.to(self.mean.device)
        others = self.half_squares.masked_fill(self.owners == group, torch.inf)
        centred, found = self.patches - self.mean, []
        for part in queries.split(max(1, MAX_ELEMENTS // len(others))):
            # |q - p|^2 / 2 without |q|^2, which is the same for all patches.
            ranking = torch.addmm(others, part - self.mean, centred.T, alpha=-1)
            found.append((part - self.patches[ranking.argmin(dim=1)]).norm(dim=1))
        return torch.cat(found).cpu()


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
    is_own = isinstance(detector, ImageDetector)
    if is_own:
        maps = np.empty((len(chosen), MAP_SIDE, MAP_SIDE), np.float32)
    for fold in hold_out_in_turn(len(chosen), 1 / cv, group, random_state):
        rest = np.setdiff1d(np.arange(len(chosen)), fold)
        fitted = clone(detector)
        with _naming(chosen[rest]), warnings.catch_warnings():
            warnings.simplefilter("ignore", ThresholdWarning)  # no verdict is asked for
            has_several = len(np.unique(group[rest])) > 1
            more = {"groups": group[rest]} if is_own and has_several else {}
            try:
                fitted.fit(_subset(X, chosen[rest]), **more)
            except (TypeError, ValueError) as error:
                if is_own or isinstance(error, InvalidImageError):
                    raise
                raise ValueError(
                    f"{type(detector).__name__} cannot be fitted on images ({error}); hand it to "
                    "a FeatureOutlierDetector, or to a pipeline that begins with ImageFeatures"
                ) from error
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


def _in_usual_units(maps):
    """Maps (n, h, w) in robust deviations from the median of all at each position, smoothed."""
    median = np.median(maps, axis=0)
    deviation = median_abs_deviation(maps, axis=0, scale="normal")
    n = len(maps)
    deviation = n * ndimage.gaussian_filter(deviation, 1) + PRIOR_IMAGES * deviation.mean()
    deviation = np.maximum(deviation / (n + PRIOR_IMAGES), LEAST_DEVIATION)
    return (maps - ndimage.gaussian_filter(median, 1)) / deviation


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

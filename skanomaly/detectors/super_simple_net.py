"""SuperSimpleNet: Rolih, Fučka, Skočaj, arXiv 2408.03143."""

from __future__ import annotations

from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from .._parameters import parameter
from .._sklearn import Interval
from ..features import as_rows, channel_statistics, on_finest_grid
from ._feature_detector import FrozenFeatureDetector
from ._perlin_noise import perlin_noise

# Side of the classification head's convolution.
HEAD_SIDE = 5

# The noise in which defects are drawn has 1, 2, 4, ... of these cells along each axis.
MAX_LOG_CELLS = 5

# Samples of a training with a real defect, for one of a normal image.
MARKED_FOR_ONE = 0.25


class SuperSimpleHeads(nn.Module):
    """From features to a map and a score of the image: an adaptor and two heads.

    Parameters
    ----------
    mean, std : tensor, shape (c,)
        Of each channel over the training images.
    noise_std : float
    n_head : int
        Channels of the classification head.
    """

    def __init__(self, mean, std, noise_std, n_head):
        super().__init__()
        c = len(mean)
        self.noise_std = noise_std
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        self.adaptor = nn.Conv2d(c, c, 1)
        nn.init.xavier_normal_(self.adaptor.weight)
        self.segment = nn.Sequential(
            nn.Conv2d(c, c, 1),
            nn.BatchNorm2d(c),
            nn.LeakyReLU(0.2),
            nn.Conv2d(c, 1, 1, bias=False),
        )
        self.look = nn.Sequential(
            nn.Conv2d(c + 1, n_head, HEAD_SIDE, padding="same"),
            nn.BatchNorm2d(n_head),
            nn.ReLU(),
        )
        self.classify = nn.Linear(2 * n_head + 2, 1)

    def forward(self, drawn):
        """Map (2 n, h, w) and score (2 n,) of features as they are, and with noise where drawn."""
        f, noise = drawn
        a = self.adapt(f)
        return self.judge(torch.cat([a, a + self.noise_std * noise]))

    def adapt(self, f):
        """The adapted features (n, c, h, w) of features."""
        return self.adaptor((f - self.mean) / self.std)

    def judge(self, a):
        """Map (n, h, w) and score (n,) of adapted features, both as logits."""
        m = self.segment(a)  # (n, 1, h, w)
        g = self.look(torch.cat([a, m], dim=1))  # (n, n_head, h, w)
        pooled = [x.flatten(2).amax(2) for x in (g, m)] + [x.mean(dim=(2, 3)) for x in (g, m)]
        return m[:, 0], self.classify(torch.cat(pooled, dim=1))[:, 0]


class SuperSimpleLoss(nn.Module):
    """Truncated L1 and focal losses of the map, and the focal loss of the score.

    Parameters
    ----------
    threshold : float
        Logit beyond which a position is told apart.
    gamma : float
        Of the focal loss.
    """

    def __init__(self, threshold, gamma):
        super().__init__()
        self.threshold, self.gamma = threshold, gamma

    def forward(self, found, target):
        """The loss; the target is (masks (n, h, w), labels (n,)), negative where not known."""
        (m, s), (masks, labels) = found, target
        loss = focal_loss(s, labels, self.gamma).mean()
        known = masks >= 0
        for sign, chosen in ((1, masks == 0), (-1, masks == 1)):
            truncated = (self.threshold + sign * m).clamp(min=0)
            loss = loss + (truncated * chosen).sum() / chosen.sum().clamp(min=1)
        focal = focal_loss(m, masks, self.gamma) * known
        return loss + focal.sum() / known.sum().clamp(min=1)


def focal_loss(logits, target, gamma):
    r"""Cross entropy times :math:`(1 - p)^\gamma`, p the probability of the target, 0 or 1.

    Lin et al., arXiv 1708.02002.
    """
    log_p = F.logsigmoid(torch.where(target == 1, logits, -logits))
    return -((1 - log_p.exp()) ** gamma) * log_p


class DrawnFeatures(Dataset):
    """Features of normal images and of marked ones, with seeds of what is drawn on them.

    Parameters
    ----------
    normal : FeatureDataset
    grid : (int, int)
        Of the map.
    fixed : bool, default=False
        Give the same seeds every time, to compare epochs by. Otherwise they follow PyTorch's
        random state.
    """

    def __init__(self, normal, grid, *, fixed=False):
        self.normal, self.grid, self.fixed = normal, tuple(grid), fixed
        self.marked, self.n_more, self.digests = [], 0, [normal.digest]

    def add(self, features, defects):
        """Add images with real defects, a `MarkedImages`, as often as their share asks for."""
        self.marked, self.masks = features, defects.masks_on(self.grid)
        n = len(features)
        self.n_more = n * max(1, round(MARKED_FOR_ONE * len(self.normal) / n))
        self.digests += [features.digest, defects.digest]

    def digest(self):
        """What says which images these are, and what is marked on them."""
        return [digest() for digest in self.digests]

    def __len__(self):
        return len(self.normal) + self.n_more

    def __getitems__(self, indices):
        """The batch (levels, masks (n, h, w), labels (n,), seeds (n,)) of these samples."""
        levels, masks, labels = zip(*(self._sample(int(i)) for i in indices))
        seeds = indices if self.fixed else torch.randint(2**62, (len(indices),)).tolist()
        levels = tuple(torch.stack(level) for level in zip(*levels))
        return levels, torch.stack(masks), torch.tensor(labels), torch.tensor(seeds)

    def _sample(self, i):
        """Features, mask and label of a sample."""
        if i < len(self.normal):
            return self.normal[i], torch.zeros(self.grid), 0.0
        i = (i - len(self.normal)) % len(self.marked)
        return self.marked[i], self.masks[i], 1.0

    @staticmethod
    def collate(batch):
        """What `__getitems__` has put together already."""
        return batch


class SuperSimpleNet(FrozenFeatureDetector):
    """Detect defects as features that a network tells from good ones, to which noise was added.

    Pretrained features are adapted by one linear layer. In a part of each training image,
    where smooth noise is high, independent noise is added to them, and two small heads
    learn to tell where, and whether at all [1]_. Nothing is drawn onto images, so that
    pretrained features are computed once.

    It also learns from real defects: images that `y` calls anomalous, or whose masks mark a
    pixel, are learnt from as such (``n_defects_``), five or ten of them already help.

    Parameters
    ----------
    layers : sequence of int
        Levels of the pyramid, on the finest one's grid. The paper's are (2, 3), with
        ``upsampling=2``: the same grid, without the features that belong to it.
    upsampling : int
        Positions along a side for each of the finest level's. It takes its square times as
        long.
    head_channels : int
        Channels of the head that judges the whole image; 128, as we recall the authors'
        program, takes three times the time.
    noise_std : float
        Standard deviation of the noise, in those of each feature over the training images
        before it is adapted. The paper's 0.015 is of its network's features as they are.
    noise_threshold : float
        Smooth (Perlin's) noise of up to 1 above which noise is added; the authors', as we
        recall.
    truncation : float
        Logit beyond which a position counts as told apart; the paper's.
    focal_gamma : float
        Exponent of the focal losses; the authors', as we recall.
    weight_decay : float
        Of AdamW; the authors', as we recall.
    classification_weight : float
        How much the logit of the whole image counts beside those of positions: it is added to
        the map at all of them, so that the score, which is the map's, knows of it. The paper's
        score is this logit alone, its map the positions' alone.
    max_epochs : int
        Passes over the training images, few at a high rate: where noise has become easy to
        tell, the adaptor having learnt to keep it apart, defects are outlined worse. The
        paper's are 300. Of few images, more.
    lr : float
        Learning rate of AdamW at the start, half of it for the adaptor; the paper's is 2e-4.
    smoothing : float or "auto"
        As of `BaseImageDetector`; the paper's is 4.
    standardize : {"global", "position"} or None
        Units of the map, see `BaseImageDetector`; the paper's is None.

    Attributes
    ----------
    n_defects_ : int
        Defective images that were learnt from.

    Notes
    -----
    Each image of a batch is there twice, as it is and with noise of :math:`\\sigma` =
    `noise_std` at the positions of a mask M, which leaves real defects out:

    .. math:: \\tilde a = a + \\sigma \\epsilon \\odot M, \\quad \\epsilon \\sim N(0, I).

    With the logits m of the positions and s of the image, t = `truncation` and the focal loss
    FL the loss is

    .. math:: \\overline{(t + m)_+}^{\\,normal} + \\overline{(t - m)_+}^{\\,defect}
              + \\overline{FL(m)} + \\overline{FL(s)}.

    Of a defective image without a mask (`y` are labels) it is known that s is to be high, and
    its positions are in no loss. Real defects are repeated until there is one for four normal
    images, which is not the paper's. A fit holds all images' features.

    References
    ----------
    .. [1] B. Rolih, M. Fučka, D. Skočaj, "SuperSimpleNet: Unifying Unsupervised and
           Supervised Learning for Fast and Reliable Surface Defect Detection", ICPR 2024,
           arXiv:2408.03143.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import SuperSimpleNet
    >>> from skanomaly.datasets import make_texture_defects
    >>> train = make_texture_defects("gravel", n_normal=20, image_size=64, random_state=0)
    >>> found = make_texture_defects("gravel", split="test", n_normal=0, n_defective=4,
    ...                              image_size=64, random_state=1)
    >>> X, y = (np.concatenate([train[k], found[k]]) for k in ("images", "masks"))
    >>> detector = SuperSimpleNet(image_size=64, max_epochs=2, random_state=0).fit(X, y)
    >>> detector.n_defects_, detector.transform(X[:2]).shape
    (4, (2, 64, 64))
    """

    upsampling: int = parameter(1, Interval(Integral, 1, None, closed="left"))
    head_channels: int = parameter(32, Interval(Integral, 1, None, closed="left"))
    noise_std: float = parameter(0.5, Interval(Real, 0, None, closed="neither"), affects="training")
    noise_threshold: float = parameter(
        0.2, Interval(Real, -1, 1, closed="both"), affects="training"
    )
    truncation: float = parameter(0.5, Interval(Real, 0, None, closed="left"), affects="training")
    focal_gamma: float = parameter(4.0, Interval(Real, 0, None, closed="left"), affects="training")
    weight_decay: float = parameter(
        1e-5, Interval(Real, 0, None, closed="left"), affects="training"
    )
    classification_weight: float = parameter(
        0.3, Interval(Real, 0, None, closed="left"), affects="scores"
    )
    max_epochs = 6
    smoothing = 2.0
    standardize = "position"

    _learns_from_defects = True

    def _fit_images(self, images, validation, defects=None):
        self._open_encoder(images, validation)
        if self.image_size is None:
            for part in (validation, *([] if defects is None else [defects.images])):
                part.required_size = tuple(images[0].shape[1:])
        normal, held_out = self._extracted(images), self._extracted(validation)
        joined = (self._joined(levels) for levels, _ in normal.batches(self.batch_size))
        statistics = channel_statistics(map(as_rows, joined))
        grid = self._joined(normal[:1]).shape[2:]
        train = DrawnFeatures(normal, grid)
        if defects is not None:
            train.add(self._extracted(defects.images), defects)
        self.net_ = self._make_net(
            SuperSimpleHeads(*statistics, self.noise_std, self.head_channels),
            SuperSimpleLoss(self.truncation, self.focal_gamma),
            DrawnFeatures,
            prepare_batch=self._drawn,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=self.weight_decay,
            optimizer__param_groups=[("adaptor.*", {"lr": self.lr / 2})],
        ).fit_on(train, DrawnFeatures(held_out, grid, fixed=True))
        return self._validation_maps(held_out)

    def _extracted(self, images):
        return self.encoder_.extract(images, self.batch_size, self.n_jobs)

    def _maps_of_features(self, levels):
        """Logits of positions, and of the whole image, on a grid of one position."""
        module = self.net_.module_
        m, s = module.judge(module.adapt(self._joined(levels)))
        return [m, self.classification_weight * s[:, None, None]]

    def _joined(self, levels):
        """All levels on one grid (n, c, h, w), each position the mean of 3 x 3."""
        finest, *coarser = levels
        if self.upsampling > 1:
            finest = F.interpolate(finest, scale_factor=self.upsampling, mode="bilinear")
        return on_finest_grid([finest, *coarser], 3)

    def _drawn(self, levels, masks, labels, seeds):
        """Features with noise within masks, and the target, images as they are first."""
        f = self._joined(levels)
        noise, drawn = zip(*(self._noise(f.shape[1:], seed) for seed in seeds.tolist()))
        noise, drawn = torch.stack(noise).to(f.device), torch.stack(drawn).to(f.device)
        drawn = drawn & (masks != 1)[:, None]
        with_drawn = torch.where(masks < 0, masks, torch.maximum(masks, drawn[:, 0].float()))
        any_drawn = torch.maximum(labels, drawn.flatten(1).any(dim=1).float())
        target = torch.cat([masks, with_drawn]), torch.cat([labels, any_drawn])
        return (f, noise * drawn), target

    def _noise(self, shape, seed):
        """Normal noise (c, h, w), and where it is added, (1, h, w)."""
        generator = torch.Generator().manual_seed(seed)
        cells = 2 ** torch.randint(MAX_LOG_CELLS + 1, (2,), generator=generator)
        drawn = perlin_noise(shape[1:], cells.tolist(), generator) > self.noise_threshold
        return torch.randn(shape, generator=generator), drawn[None]

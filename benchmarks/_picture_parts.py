"""What pictures of methods are made of: fitted detectors, and what they see."""

import numpy as np
import torch
from _common import fit
from _panels import GREY, RED
from align import drawn_parts
from matplotlib.ticker import NullLocator
from PIL import Image
from sklearn.decomposition import PCA

from skanomaly.features import on_finest_grid
from skanomaly.maps import normalized_residual


def features_of(detector, X, neighborhood=3):
    """Pretrained features of images, (n, h, w, c)."""
    pixels = [detector._open([image])[0] for image in X]
    with torch.inference_mode():
        levels = detector.encoder_(torch.stack(pixels))
    return on_finest_grid(levels, neighborhood).permute(0, 2, 3, 1).numpy()


def as_colours(vectors, like):
    """Vectors (h, w, d) as colours: their three principal components among others (n, d)."""
    pca = PCA(3, random_state=0).fit(like)
    low, high = np.percentile(pca.transform(like), (1, 99), axis=0)
    values = pca.transform(vectors.reshape(-1, vectors.shape[-1]))
    return ((values - low) / (high - low)).clip(0, 1).reshape(*vectors.shape[:-1], 3)


def on_cells(mask, shape):
    """Whether a defect covers half of each cell of a grid."""
    whole = Image.fromarray(255 * np.uint8(mask)).resize(shape[::-1], Image.Resampling.BOX)
    return np.asarray(whole) > 127


def fitted(detector, scene):
    fit(detector, scene.train, X_val=scene.validation)
    return detector


def detector_images(detector, scene):
    """The images that a detector with a gallery has learnt from, in its order."""
    n = len(detector.global_features_)
    of_train = [
        detector._pyramid(detector._open([image])[0][None])[-1].mean(dim=(2, 3))[0].detach()
        for image in scene.train
    ]
    order = torch.cdist(detector.global_features_, torch.stack(of_train)).argmin(dim=1)
    assert len(set(order.tolist())) == n
    return [scene.train[i] for i in order]


def difference(made, image):
    """Of two images, from 0 to 1."""
    found = np.abs(made - np.squeeze(image) / 255)
    return found / found.max()


def level_panels(detector, x, found):
    """How the features of an image differ from those found otherwise, level by level."""
    with torch.inference_mode():
        pairs = zip(detector.encoder_(x), found)
        residuals = [normalized_residual(f, other)[0].numpy() for f, other in pairs]
    names = (rf"$\phi_{k}$, stride {s}" for k, s in enumerate(detector.encoder_.strides, 1))
    return {name: phi / phi.max() for name, phi in zip(names, residuals)}


def new_plates():
    """Good ones, and those with defects."""
    images = np.stack(drawn_parts(0).test.images)
    return images[:30], images[30:]


def seen(detector, scene):
    """The image at the size that a network for small ones sees."""
    return detector._open([scene.image])[0].permute(1, 2, 0).numpy()


def histograms(ax, good, bad):
    bins = np.geomspace(min(good.min(), bad.min()), max(good.max(), bad.max()), 20)
    for values, colour, label in ((good, GREY, "good"), (bad, RED, "defect")):
        share = np.full(len(values), 1 / len(values))
        ax.hist(values, bins, weights=share, color=colour, alpha=0.7, label=label)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylabel("share", fontsize=8)
    ax.legend(fontsize=7)

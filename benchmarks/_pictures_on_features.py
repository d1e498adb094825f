"""Pictures of the methods on pretrained features."""

import numpy as np
import torch
from _panels import BLUE, GREY, RED, bricks, plates, points
from _picture_parts import (
    as_colours,
    detector_images,
    features_of,
    fitted,
    level_panels,
    on_cells,
)
from matplotlib.ticker import FixedLocator, NullLocator
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

import skanomaly


def padim():
    """Means at all positions, and the Gaussian of one, with the image's features there."""
    scene = plates()
    detector = fitted(skanomaly.PaDiM(random_state=0), scene)

    def vectors(image):
        with torch.inference_mode():
            levels = detector.encoder_(detector._open([image])[0][None])
        return detector._vectors(levels)[0].numpy()

    mean, found = detector.gaussian_.mean.numpy(), vectors(scene.image)
    shape = tuple(n // 4 for n in scene.mask.shape)
    with torch.inference_mode():
        distances = detector.gaussian_(torch.from_numpy(found)[None])[0].numpy()
    position = int(distances.argmax())
    learnt = np.stack([vectors(image)[position] for image in scene.train])
    deviations = np.abs(found[position] - learnt.mean(axis=0)) / learnt.std(axis=0)
    pair = np.sort(deviations.argsort()[-2:])

    def draw(ax):
        points(ax, learnt[:, pair], found[None, position, pair], [f"feature {j}" for j in pair])
        (center,), covariance = learnt[:, pair].mean(axis=0)[None], np.cov(learnt[:, pair].T)
        angles = np.linspace(0, 2 * np.pi, 90)
        circle = np.stack([np.cos(angles), np.sin(angles)])
        for n_deviations in (1, 2, 3):
            ellipse = center[:, None] + n_deviations * np.linalg.cholesky(covariance) @ circle
            ax.plot(*ellipse, color=BLUE, linewidth=0.8)

    means = as_colours(mean.reshape(*shape, -1), mean)
    yield detector, scene, {r"means $\mu_{ij}$": means, "at one position": draw}


def patch_core():
    """The image, put together of the patches in the memory that are nearest to its own."""
    scene = bricks()
    detector = fitted(skanomaly.PatchCore(image_size=128, random_state=0), scene)
    of_train, of_image = (
        features_of(detector, X) / detector.scale_ for X in (scene.train, [scene.image])
    )
    _, h, w, d = of_train.shape
    rows = of_train.reshape(-1, d)
    memory = detector.bank_.patches + (0 if detector.bank_.mean is None else detector.bank_.mean)
    origins = cdist(memory.numpy(), rows).argmin(axis=1)
    nearest = cdist(of_image.reshape(-1, d), rows[origins]).argmin(axis=1)
    cell = 128 // h
    cells = scene.train.squeeze().reshape(-1, h, cell, w, cell).swapaxes(2, 3)
    pasted = cells.reshape(-1, cell, cell)[origins[nearest]].reshape(h, w, cell, cell)
    yield (
        detector,
        scene,
        {
            "its features": as_colours(of_image[0], rows),
            "nearest in the memory": pasted.swapaxes(1, 2).reshape(128, 128) / 255,
        },
    )


def subspace_ad():
    """Patches by a coordinate within the subspace, and by their distance from it."""
    scene = bricks()
    detector = fitted(skanomaly.SubspaceAD(image_size=128, random_state=0), scene)
    good, bad = (features_of(detector, X) for X in (scene.train[::6], [scene.image]))
    inside = on_cells(scene.mask, bad.shape[1:3])
    rows = good.reshape(-1, good.shape[-1])
    pca = PCA(1, random_state=0).fit(rows)

    def coordinates(rows):
        distances = detector.subspace_(torch.from_numpy(rows).float()).numpy()
        return np.stack([pca.transform(rows)[:, 0], distances], axis=1)

    def draw(ax):
        axes = "along the first component", "distance from the subspace"
        points(ax, coordinates(good.reshape(-1, good.shape[-1])), coordinates(bad[0][inside]), axes)

    yield (
        detector,
        scene,
        {"its features": as_colours(bad[0], good[0].reshape(-1, good.shape[-1])), "patches": draw},
    )


def spade():
    """The good images that an image is compared with, where parts lie in four poses."""
    scene = plates(n_turns=4)
    detector = fitted(skanomaly.SPADE(n_images=5, random_state=0), scene)
    with torch.inference_mode():
        levels = detector._pyramid(detector._open([scene.image])[0][None])
        distances = torch.cdist(levels[-1].mean(dim=(2, 3)), detector.global_features_)
    order = distances[0].argsort().tolist()
    learnt = detector_images(detector, scene)
    chosen = {"most similar": order[0], "second": order[1], "least similar": order[-1]}
    yield detector, scene, {title: learnt[i] / 255 for title, i in chosen.items()}


def fast_flow():
    """How far from its mean the noise is that good features are mapped to, and a defect's."""
    scene = bricks()
    detector = fitted(skanomaly.FastFlow(image_size=128, random_state=0), scene)

    def squares(X):
        with torch.inference_mode():
            levels = detector.encoder_(torch.stack([detector._open([x])[0] for x in X]))
            z, _ = detector.net_.module_(levels)[0]
        return z.square().mean(dim=1).numpy()

    good, bad = squares(scene.train[::6]), squares([scene.image])[0]
    inside = on_cells(scene.mask, bad.shape)

    def draw(ax):
        bins = np.geomspace(good.min(), max(bad.max(), good.max()), 40)
        for values, colour, label in ((good, GREY, "good"), (bad[inside], RED, "defect")):
            share = np.full(values.size, 1 / values.size)
            ax.hist(values.ravel(), bins, weights=share, color=colour, alpha=0.7, label=label)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator([0.3, 1, 3, 10]))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(r"$\overline{z^2}$ at a position, finest level", fontsize=8)
        ax.set_ylabel("share", fontsize=8)
        ax.legend(fontsize=7)

    yield (
        detector,
        scene,
        {r"$\overline{z^2}$": (bad / np.quantile(bad, 0.995)).clip(0, 1), "positions": draw},
    )


def hierarchical_feature_ae():
    """Residuals of three levels."""
    scene = bricks()
    detector = fitted(skanomaly.HierarchicalFeatureAE(image_size=128, random_state=0), scene)
    residuals = [levels[0] for levels in detector.residual_maps([scene.image])]
    names = (rf"$\phi_{k}$, stride {s}" for k, s in enumerate(detector.encoder_.strides, 1))
    yield detector, scene, {n: r / r.max() for n, r in zip(names, residuals)}


def stfpm():
    """Residuals of three levels, of which the map is the product."""
    scene = bricks()
    detector = fitted(skanomaly.STFPM(image_size=128, random_state=0), scene)
    x = detector._open([scene.image])[0][None]
    yield detector, scene, level_panels(detector, x, detector.net_.module_(x))


def reverse_distillation():
    """What of each level does not pass through the code."""
    scene = bricks()
    detector = fitted(skanomaly.ReverseDistillation(image_size=128, random_state=0), scene)
    x = detector._open([scene.image])[0][None]
    with torch.inference_mode():
        found = detector.net_.module_(detector.encoder_(x))
    yield detector, scene, level_panels(detector, x, found)


def mkd():
    """The gradient that the map is made of."""
    scene = bricks()
    detector = fitted(skanomaly.MKD(image_size=128, random_state=0), scene)
    _, gradients = detector._losses_and_gradients(detector._open([scene.image])[0][None])
    magnitude = gradients[0].abs().sum(dim=0).numpy()
    shown = (magnitude / np.quantile(magnitude, 0.995)).clip(0, 1)
    yield detector, scene, {r"$|\partial L / \partial x|$": shown}


def patch_ae():
    """What the auto-encoder gives back: the defect, too."""
    scene = bricks("missing", nth=3)
    detector = fitted(
        skanomaly.PatchAE(image_size=128, max_epochs=30, patch_size=4, random_state=0), scene
    )
    x = detector._open([scene.image])[0][None]
    with torch.inference_mode():
        given_back = detector.net_.module_(detector._features(x))[0, 0].numpy()
    yield detector, scene, {"given back": given_back.clip(0, 1)}


def super_simple_net():
    """Where noise is added to features in training, and logits of good ones and a defect's."""
    scene = bricks()
    few = {"max_epochs": 30, "lr": 2e-3}  # images
    detector = skanomaly.SuperSimpleNet(image_size=128, **few, random_state=0)
    detector = fitted(detector, scene)
    heads = detector.net_.module_

    def features(X):
        levels = detector.encoder_(torch.stack([detector._open([x])[0] for x in X]))
        return heads.adapt(detector._joined(levels))

    with torch.inference_mode():
        good, bad = features(scene.train[::6]), features([scene.image])
        noise, drawn = (
            torch.stack(part)
            for part in zip(*(detector._noise(good.shape[1:], seed) for seed in range(len(good))))
        )
        m = heads.judge(good)[0].numpy()
        noisy = heads.judge(good + heads.noise_std * noise * drawn)[0].numpy()
        of_defect = heads.judge(bad)[0].numpy()[0]
    inside, drawn = on_cells(scene.mask, of_defect.shape), drawn[:, 0].numpy()

    def draw(ax):
        parts = (m, GREY, "good"), (noisy[drawn], BLUE, "with noise")
        for values, colour, label in (*parts, (of_defect[inside], RED, "defect")):
            share = np.full(values.size, 1 / values.size)
            ax.hist(values.ravel(), 30, weights=share, color=colour, alpha=0.6, label=label)
        ax.set_xlabel("logit $m$ of a position", fontsize=8)
        ax.set_ylabel("share", fontsize=8)
        ax.legend(fontsize=7)

    shown = drawn[np.abs(drawn.mean(axis=(1, 2)) - 0.3).argmin()]
    yield detector, scene, {"noise is added within": shown.astype(float), "positions": draw}


PICTURES = (
    fast_flow,
    hierarchical_feature_ae,
    mkd,
    padim,
    patch_ae,
    patch_core,
    reverse_distillation,
    spade,
    stfpm,
    subspace_ad,
    super_simple_net,
)

"""The pictures of docs/methods: an image, what each method sees of it, its map and the mask."""

import argparse
from pathlib import Path

import numpy as np
import torch
from _common import fit
from _panels import BLUE, GREY, RED, bricks, draw_rows, paper, plates, points
from align import drawn_parts
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

import skanomaly
from skanomaly.features import on_finest_grid
from skanomaly.synthesis import DefectGenerator

# What detectors of whole small images need to show defects.
SMALL_DEFECTS = {"score_reduction": "max", "standardize": "position", "max_epochs": 300}

IMAGES = Path(__file__).parents[1] / "docs" / "images" / "methods"


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


def local_contrast():
    """Blurs: of a sheet with a speck, and of a wall, where everything is contrast."""
    for scene in (paper(), bricks("spot")):
        detector = fitted(skanomaly.LocalContrast(random_state=0, image_size=None), scene)
        blurred = gaussian_filter(np.squeeze(scene.image).astype(float), detector.scales[0])
        contrast = np.abs(np.squeeze(scene.image) - blurred)
        yield (
            detector,
            scene,
            {"blurred by 8 pixels": blurred / 255, "difference": contrast / contrast.max()},
        )


def median_difference():
    """The median image and the spread."""
    scene = plates()
    detector = fitted(skanomaly.MedianDifference(random_state=0), scene)
    median, spread = (x.permute(1, 2, 0).numpy() for x in (detector.median_, detector.spread_))
    spread = spread.mean(axis=2)
    yield detector, scene, {"median $m$": median, "spread $s$": spread / spread.max()}


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


def patch_reconstruction():
    """Reconstruction and difference."""
    scene = bricks("scratch")
    detector = fitted(skanomaly.PatchReconstruction(n_patches=300, random_state=0), scene)
    made = np.squeeze(detector.reconstruct([scene.image])[0])
    yield detector, scene, {"reconstruction $y$": made, "$|y - x|$": difference(made, scene.image)}


def patch_latent_svm():
    """Latents of patches of 27 pixels, the support vectors among them."""
    scene = bricks("missing", nth=3)
    detector = fitted(skanomaly.PatchLatentSVM(n_patches=300, random_state=0), scene)
    network, half = detector.net_.module_, detector.svm_patch_sizes[0] // 2

    def latents(image, places):
        image = np.squeeze(image) / np.float32(255)
        cut = [image[i - half : i + half + 1, j - half : j + half + 1] for i, j in places]
        with torch.inference_mode():
            return network.encode(torch.from_numpy(np.stack(cut)[:, None])).flatten(1).numpy()

    middles = [(i, j) for i in range(half, 115, 9) for j in range(half, 115, 9)]
    good = np.concatenate([latents(image, middles) for image in scene.train[::6]])
    bad = latents(scene.image, [place for place in middles if scene.mask[place]])
    support = detector.estimators_[0].support_vectors_
    pca = PCA(2, random_state=0).fit(good)

    def draw(ax):
        points(ax, pca.transform(good), pca.transform(bad), ("first component", "second"))
        ax.scatter(
            *pca.transform(support).T, s=14, facecolors="none", edgecolors=BLUE, label="support"
        )
        ax.legend(fontsize=7, loc="best", markerscale=1.5)

    yield detector, scene, {"latents of patches": draw}


def patch_restoration():
    """How likely the codes are, and what becomes of the image without the unlikely ones."""
    scene, of_paper = bricks(), {"error": "ssim", "standardize": None}
    detector = fitted(
        skanomaly.PatchRestoration(
            n_patches=300, n_prior_patches=80, stride=36, random_state=0, **of_paper
        ),
        scene,
    )
    x = detector._open([scene.image])[0][None]
    with torch.inference_mode():
        codes = detector.net_.module_.assign(x)
        likelihood = detector.prior_net_.module_.log_likelihood(codes)[0].numpy()
    restored = np.squeeze(detector.restore([scene.image])[0])
    brightness = detector.net_.module_.quantizer.codes.mean(dim=1).argsort().argsort()
    shown = brightness[codes[0]].numpy() / detector.n_codes

    def draw(ax):
        ax.imshow(0.4 + 0.6 * shown, cmap="gray", vmin=0, vmax=1)
        unlikely = likelihood < detector.log_likelihood_threshold_
        ax.scatter(*np.argwhere(unlikely)[:, ::-1].T, s=5, marker="s", color=RED)
        ax.set_axis_off()

    yield detector, scene, {"codes, unlikely ones red": draw, "restored": restored}


def self_supervised_ae():
    """What the network learns from, and what it makes of an image."""
    scene = bricks("stain", nth=3)
    detector = fitted(
        skanomaly.SelfSupervisedAE(image_size=128, width=32, max_epochs=40, random_state=0), scene
    )
    x = torch.stack([detector._open([image])[0] for image in scene.train[:2]])
    drawn = DefectGenerator().draw(x[:1], seeds=[7], sources=x[1:])
    made = np.squeeze(detector.reconstruct([scene.image])[0])
    yield (
        detector,
        scene,
        {
            "learns to mend such": drawn.images[0, 0].numpy(),
            "filtered $g(x)$": made,
            "$|g(x) - x|$": difference(made, scene.image),
        },
    )


def deep_svdd():
    """Distances from the centre, of parts with and without defects."""
    scene = plates(kind=1)
    detector = fitted(skanomaly.DeepSVDD(random_state=0, **SMALL_DEFECTS), scene)
    good, bad = (-detector.score_samples(X) for X in new_plates())

    def draw(ax):
        histograms(ax, good, bad)
        ax.set_xlabel(r"$\Vert\phi(x) - c\Vert^2$, by the map's pixels", fontsize=8)

    yield detector, scene, {"as the network sees it": seen(detector, scene), "images": draw}


def lsa():
    """What is given back, and both parts of the scores."""
    scene = plates(kind=1)
    detector = fitted(skanomaly.LSA(random_state=0, **SMALL_DEFECTS), scene)

    def parts(X):
        with torch.inference_mode():
            error, nll = detector._parts(torch.stack([detector._open([x])[0] for x in X]))
        return torch.stack([error.mean(dim=(1, 2)), nll], dim=1).numpy()

    def draw(ax):
        axes = "mean squared error", r"$-\log p(z)$"
        points(ax, *map(parts, new_plates()), axes)

    made = np.squeeze(detector.reconstruct([scene.image])[0])
    yield detector, scene, {"reconstruction $g(z)$": made, "images": draw}


def arae():
    """What the adversary changes, and what is given back."""
    scene = plates(kind=1)
    detector = fitted(skanomaly.ARAE(random_state=0, **SMALL_DEFECTS), scene)
    module = detector.net_.module_
    x = detector._open([scene.train[0]])[0][None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        change = (module.perturbed(x) - x)[0].permute(1, 2, 0).numpy()
    module.eval()
    made = np.squeeze(detector.reconstruct([scene.image])[0])
    yield (
        detector,
        scene,
        {
            "adversary's change": 0.5 + change / (2 * detector.epsilon),
            "given back": made,
            "$|d(e(x)) - x|$": difference(made, scene.image),
        },
    )


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


PICTURES = {
    make.__name__: make
    for make in (
        arae,
        deep_svdd,
        fast_flow,
        hierarchical_feature_ae,
        local_contrast,
        lsa,
        median_difference,
        padim,
        patch_ae,
        patch_core,
        patch_latent_svm,
        patch_reconstruction,
        patch_restoration,
        self_supervised_ae,
        spade,
        subspace_ad,
    )
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", choices=PICTURES, default=list(PICTURES))
    for name in parser.parse_args().pictures:
        draw_rows(list(PICTURES[name]()), IMAGES / f"{name}.png")
        print(name, flush=True)


if __name__ == "__main__":
    main()

"""Pictures of the methods on pixels."""

import numpy as np
import torch
from _panels import BLUE, RED, bricks, paper, plates, points
from _picture_parts import (
    as_colours,
    difference,
    fitted,
    histograms,
    new_plates,
    seen,
)
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA

import skanomaly
from skanomaly.synthesis import DefectGenerator

# Of auto-encoders of large patches, in a minute.
OF_PLATES = {"image_size": 128, "width": 16, "patch_size": None, "max_epochs": 80, "lr": 2e-3}
# What detectors of whole small images need to show defects.
SMALL_DEFECTS = {"score_reduction": "max", "standardize": "position", "max_epochs": 300}


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


def conv_ae():
    """Reconstruction and squared difference, by patches."""
    scene = plates(kind=1)
    detector = fitted(skanomaly.ConvAE(**OF_PLATES, random_state=0), scene)
    made = np.squeeze(detector.reconstruct([scene.image])[0])
    yield (
        detector,
        scene,
        {r"reconstruction $\hat x$": made, r"$|x - \hat x|$": difference(made, scene.image)},
    )


def vae_grad():
    """Reconstruction, and the image as it was moved."""
    scene = plates(kind=1)
    detector = fitted(skanomaly.VAEGrad(**OF_PLATES, random_state=0), scene)
    x = detector._open([scene.image])[0][None]
    with torch.inference_mode():
        given_back = detector._over_patches(lambda x: detector.net_.module_(x)[0], x)[0, 0].numpy()
    moved = np.squeeze(detector.restore([scene.image])[0])
    yield (
        detector,
        scene,
        {
            r"reconstruction $d(\mu(x_0))$": given_back.clip(0, 1),
            "moved, $x_T$": moved,
            "$|x_T - x_0|$": difference(moved, scene.image),
        },
    )


def cavga():
    """Reconstruction and attention."""
    scene = plates(kind=1)
    detector = fitted(skanomaly.CAVGA(**OF_PLATES, random_state=0), scene)
    x = detector._open([scene.image])[0][None]
    with torch.inference_mode():
        left_out = detector._compute_maps(x)[0]
    module = detector.net_.module_
    with torch.no_grad():
        given_back = detector._over_patches(lambda x: module(x)[0], x)[0, 0].numpy()
    attention = (1 - left_out).numpy()
    low, high = attention.min(), attention.max()
    yield (
        detector,
        scene,
        {
            r"reconstruction $\hat x$": given_back.clip(0, 1),
            f"attention $A$, {low:.2f} to {high:.2f}": (attention - low) / (high - low),
        },
    )


def patch_svdd():
    """Codes of smaller patches as colours, and how far they are from those of good images."""
    scene = bricks()
    settings = {"patch_size": 32, "stride": 2, "image_size": None, "max_epochs": 40}
    detector = fitted(skanomaly.PatchSVDD(**settings, random_state=0), scene)
    images = [scene.image, *scene.train[::10]]
    with torch.inference_mode():
        _, codes = detector._codes(torch.stack([detector._open([x])[0] for x in images]))
        rows = codes[:1].permute(0, 2, 3, 1).flatten(0, 2)
        distances = detector.small_bank_.distances(rows).view(codes.shape[2:]).numpy()
    codes = codes.permute(0, 2, 3, 1).numpy()

    def on_image(values):
        """Values of patches where their centres lie."""
        places = [
            ((np.arange(n) - detector.patch_size // 4) // detector.stride).clip(0, m - 1)
            for n, m in zip(scene.mask.shape, values.shape)
        ]
        return values[places[0]][:, places[1]]

    yield (
        detector,
        scene,
        {
            "codes of 16 pixels": on_image(as_colours(codes[0], codes.reshape(-1, codes.shape[3]))),
            "distances": on_image((distances / np.quantile(distances, 0.999)).clip(0, 1)),
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


PICTURES = (
    arae,
    cavga,
    conv_ae,
    deep_svdd,
    local_contrast,
    lsa,
    median_difference,
    patch_latent_svm,
    patch_reconstruction,
    patch_restoration,
    patch_svdd,
    self_supervised_ae,
    vae_grad,
)

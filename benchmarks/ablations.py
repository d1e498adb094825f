"""What the parts of two methods give: HFR-AE's decoder and levels, the filter's corruptions.

HFR-AE with simpler decoders, and each level's residual by itself beside their sums; the filter
trained on structured corruptions, on noise that is independent from pixel to pixel, and on neither.
"""

import argparse
import itertools
from functools import partial

import numpy as np
import torch
from _common import (
    DATA_NOTES,
    METRICS,
    NO_BACKBONE,
    Results,
    as_arrays,
    backbones,
    fit,
    load_split,
    made,
    roots_of,
    run_arguments,
    spread,
    spreads,
    with_scores_by,
)
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import nn

from skanomaly import HierarchicalFeatureAE, SelfSupervisedAE
from skanomaly._holdout import hold_out
from skanomaly.detectors.hierarchical_feature_ae import HierarchicalDecoder
from skanomaly.images import ImageDataset
from skanomaly.metrics import aupro_score, pixel_roc_auc_score
from skanomaly.synthesis import DefectGenerator

NOISE_DEVIATION = 0.1
KERNELS = {
    "1x1, 3x3, 1x1, then 1x1": ((1, 3, 1), True),
    "1x1, 3x3, 1x1": ((1, 3, 1), False),
    "3x3, then 1x1": ((3,), True),
    "1x1, 1x1, 1x1, then 1x1": ((1, 1, 1), True),
    "3x3, 3x3, 3x3, then 1x1": ((3, 3, 3), True),
    "1x1": ((), True),
}
SUMS = ("similarity", "area", "equal")
DECODER_NOTES = f"""HFR-AE with its decoder's blocks of convolutions at each level replaced; the
first is the paper's and the default. "default" is the detector's own map and score. What stands
below that is of maps in the paper's units (`standardize=None`): "sum" of all levels by their
`level_weights`, and each level's residual by itself, the finest first, smoothed as the sum is, its
maximum as the score. Levels and sums take no fit of their own. Mean ± standard deviation over
seeds.

{DATA_NOTES}"""
FILTER_NOTES = f"""SelfSupervisedAE trained on structured corruptions (the default), on Gaussian
noise of deviation {NOISE_DEVIATION} that is independent in each pixel and channel, drawn over the
whole image, and on images as they are. All else is the default; the networks start as the
identity, which the last one has no reason to leave. Peak signal-to-noise ratios in dB, of normal
images that were kept out of training, at 256x256, over all pixels: "clean kept" of g(x) against x;
"defects removed" of g against the image without defects, within drawn defects of the default types,
beside what these are as drawn; "twice" of g(g(x)) against g(x), x with drawn defects: infinite for
a projection. Mean ± standard deviation over seeds.

{DATA_NOTES}"""


class OtherDecoder(HierarchicalDecoder):
    """The decoder with other convolutions in its levels."""

    kernels, last = (1, 3, 1), True

    def __init__(self, channels, hidden_ratio=1.0, negative_slope=0.1):
        super().__init__(channels, hidden_ratio, negative_slope)
        coarse_to_fine = list(reversed(channels))
        inputs = [coarse_to_fine[0], *coarse_to_fine]
        self.levels = nn.ModuleList(
            self._level(c_in, c, negative_slope) for c_in, c in zip(inputs, coarse_to_fine)
        )

    def _level(self, c_in, c, negative_slope):
        blocks = []
        for i, kernel in enumerate(self.kernels):
            convolution = nn.Conv2d(c_in if i == 0 else c, c, kernel, padding="same")
            is_output = i == len(self.kernels) - 1 and not self.last
            blocks += [convolution]
            if not is_output:
                blocks += [nn.BatchNorm2d(c), nn.LeakyReLU(negative_slope)]
        if self.last:
            blocks += [nn.Conv2d(c if self.kernels else c_in, c, 1)]
        return nn.Sequential(*blocks)


class OtherHierarchicalFeatureAE(HierarchicalFeatureAE):
    """HFR-AE with the decoder of a class."""

    decoder = HierarchicalDecoder

    def _net_on(self, levels):
        return super()._net_on(levels).set_params(module=self.decoder)


def with_decoder(name):
    if name == next(iter(KERNELS)):
        return HierarchicalFeatureAE
    kernels, last = KERNELS[name]
    decoder = type("Decoder", (OtherDecoder,), {"kernels": kernels, "last": last})
    return type("HFR", (OtherHierarchicalFeatureAE,), {"decoder": decoder})


class OfIndependentNoise(SelfSupervisedAE):
    """The filter, trained to take independent noise out of images."""

    @staticmethod
    def _input_and_target(generator, x, seeds, sources):
        noise = torch.stack(
            [torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds]
        )
        nowhere = torch.zeros_like(x[:, 0], dtype=torch.bool)
        return x + NOISE_DEVIATION * noise.to(x.device), (x, nowhere)


FILTERS = {
    "structured": SelfSupervisedAE,
    "independent noise": OfIndependentNoise,
    "none": partial(SelfSupervisedAE, defects=DefectGenerator(opacity=(0, 0))),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=[0], categories=["bottle", "grid"])
    parser.add_argument("--decoders", nargs="*", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--filters", nargs="*", choices=FILTERS, default=list(FILTERS))
    arguments = parser.parse_args()
    decoders, filters = Results("ablation_decoder"), Results("ablation_filter")
    roots = roots_of(arguments, arguments.categories)
    for seed, (category, root) in itertools.product(arguments.seeds, roots.items()):
        train, test = load_split(root, category)
        run = partial(fitted_figures, category, as_arrays(train.images), test, seed)
        for backbone, name in itertools.product(arguments.backbones, arguments.decoders):
            encoder = backbones(arguments)[backbone]
            make = partial(made, with_decoder(name), **encoder)
            run(decoders, f"{name}, {backbone}".replace(", then", " then"), make, levels_and_sums)
        for name in arguments.filters:
            run(filters, f"{name}, {NO_BACKBONE}", partial(made, FILTERS[name]), what_it_filters)
    if decoders.rows:
        write_decoders(decoders)
    if filters.rows:
        write_filters(filters)


def fitted_figures(category, images, test, seed, results, name, make, figures):
    """Fit a detector unless its rows are there, and keep what ``figures`` yields."""
    key = f"{name}; {category}; seed {seed}"
    if any(found.endswith(f"; {key}") for found in results.rows):
        return
    detector = make(random_state=seed)
    fit_s = fit(detector, images)
    for part, row in list(figures(detector, images, test)):
        results[f"{part}; {key}"] = row | {"fit_s": fit_s}


def levels_and_sums(detector, images, test):
    """Yield the figures of the detector, of sums of its levels and of each level."""
    X = as_arrays(test.images)
    found = detector.detect(X)
    yield "default", of_maps(test, found.maps, found.scores)
    for weights in SUMS:
        parameters = {"level_weights": weights, "standardize": None}
        found = with_scores_by(detector, parameters).detect(X)
        yield f"sum {weights}", of_maps(test, found.maps, found.scores)
    for k, residuals in enumerate(detector.residual_maps(X), start=1):
        maps = [gaussian_filter(phi, detector.smoothing) for phi in residuals]
        yield f"level {k}", of_maps(test, maps, [-phi.max() for phi in maps])


def of_maps(test, maps, scores):
    return {
        "image AUROC": roc_auc_score(test.target, scores),
        "pixel AUROC": pixel_roc_auc_score(test.masks, maps),
        "AUPRO": aupro_score(test.masks, maps),
    }


def what_it_filters(detector, images, test):
    """Yield the figures of a filter and what it does to held-out images."""
    found = detector.detect(as_arrays(test.images))
    random_state = np.random.RandomState(detector.random_state)
    held_out = hold_out(len(images), detector.validation_fraction, None, random_state)
    side = detector.image_size
    errors = {"clean kept": [], "drawn": [], "defects removed": [], "twice": []}
    batches = ImageDataset(images, image_size=(side, side), indices=held_out).batches(8)
    for i, batch in enumerate(batches):
        seeds = range(10**6 + 8 * i, 10**6 + 8 * i + len(batch.pixels))
        drawn, masks, _ = DefectGenerator().draw(batch.pixels, seeds)
        clean, drawn = (x.permute(0, 2, 3, 1).numpy() for x in (batch.pixels, drawn))
        g = partial(filtered, detector, clean.shape)
        once, masks = g(drawn), masks.numpy()
        errors["clean kept"].append(np.square(g(clean) - clean).ravel())
        errors["drawn"].append(np.square(drawn - clean)[masks].ravel())
        errors["defects removed"].append(np.square(once - clean)[masks].ravel())
        errors["twice"].append(np.square(g(once.clip(0, 1)) - once).ravel())
    yield (
        "default",
        of_maps(test, found.maps, found.scores)
        | {name: float(-10 * np.log10(np.concatenate(e).mean())) for name, e in errors.items()},
    )


def filtered(detector, shape, x):
    return detector.reconstruct(x).reshape(shape)


def write_decoders(results):
    results.write_table(
        "HFR-AE: parts of the decoder, single levels and their sum",
        "python benchmarks/ablations.py",
        DECODER_NOTES,
        ["category", "decoder, backbone", "map", "seeds", *METRICS, "fit"],
        [
            [category, name, part, len(rows), *spreads(rows), median_fit(rows)]
            for (part, name, category), rows in in_order(results.rows)
        ],
    )


def write_filters(results):
    ratios = ("clean kept", "drawn", "defects removed", "twice")
    results.write_table(
        "Self-supervised filtering: what it is trained to remove",
        "python benchmarks/ablations.py",
        FILTER_NOTES,
        ["category", "trained on", "seeds", *METRICS, *ratios, "fit"],
        [
            [
                *(category, name.split(", ")[0], len(rows), *spreads(rows)),
                *(spread([row[r] for row in rows], ".1f") for r in ratios),
                median_fit(rows),
            ]
            for (_, name, category), rows in in_order(results.rows)
        ],
    )


def median_fit(rows):
    return f"{np.median([row['fit_s'] for row in rows]):.0f} s"


def in_order(rows):
    """Rows by (part, name, category), by category and name, parts as they were measured."""
    groups = {}
    for key, row in rows.items():
        groups.setdefault(tuple(key.split("; ")[:3]), []).append(row)
    return sorted(groups.items(), key=lambda group: group[0][:0:-1])


if __name__ == "__main__":
    main()

"""Dense evaluation of patch auto-encoders against patch by patch: same numbers, how much faster."""

import argparse
import time

import numpy as np
import torch
from _common import Results, data_arguments
from skimage import data

from skanomaly import PatchLatentSVM, PatchReconstruction
from skanomaly.datasets import load_mvtec_ad
from skanomaly.detectors._patches import continued, patch_places

NOTES = """One 512x512 colour image (scikit-image's astronaut), patches of 63x63
at the stride given, seconds of a whole map, median of the rounds in which both roads take turns.
"patch by patch" cuts the patches out, encodes them in batches of 64 (the fastest of 64, 256 and
1000 here) and decodes or scores them; for the SVM with PyTorch, as the dense road, or with
scikit-learn's `decision_function`. Difference: the largest between the maps, relative to the
largest value. The networks were trained for one epoch, which makes no difference to the time."""
BATCH = 64


def patches_of(x, size, places):
    """Batches of patches, in the order of reading."""
    corners = [(i, j) for i in places[0] for j in places[1]]
    for start in range(0, len(corners), BATCH):
        chosen = corners[start : start + BATCH]
        yield torch.stack([x[0, :, i : i + size, j : j + size] for i, j in chosen])


def by_patches(score_batch, detector, pixels):
    places = [patch_places(n, detector.stride) for n in pixels.shape[2:]]
    x = continued(pixels, detector.patch_size)
    batches = patches_of(x, detector.patch_size, places)
    values = torch.cat([score_batch(detector, patches) for patches in batches])
    return values, places


def reconstruction_by_patches(detector, pixels):
    network = detector.net_.module_

    def errors(_, patches):
        return (network(patches) - network.without_rim(patches)).square().mean(dim=1)

    values, places = by_patches(errors, detector, pixels)
    side, shift = values.shape[1], network.margin - detector.patch_size // 2
    height, width = pixels.shape[2:]
    border = detector.patch_size
    total = torch.zeros(height + 2 * border, width + 2 * border)
    count = torch.zeros_like(total)
    corners = [(i, j) for i in places[0] for j in places[1]]
    for (i, j), patch in zip(corners, values):
        rows = slice(border + i + shift, border + i + shift + side)
        columns = slice(border + j + shift, border + j + shift + side)
        total[rows, columns] += patch
        count[rows, columns] += 1
    inside = slice(border, border + height), slice(border, border + width)
    return (total[inside] / count[inside])[None]


def latents(detector, patches):
    return detector.net_.module_.encode(patches)


def svm_by_patches(detector, pixels):
    values, places = by_patches(
        lambda d, p: -d.machines_[0](latents(d, p)).flatten(), detector, pixels
    )
    return values.view(1, *map(len, places))


def sklearn_by_patches(detector, pixels):
    def score(_, patches):
        z = latents(detector, patches).flatten(1).double().numpy()
        found = np.mean([svm.decision_function(z) for svm in detector.estimators_], axis=0)
        return -torch.from_numpy(found)

    values, places = by_patches(score, detector, pixels)
    return values.view(1, *map(len, places))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    images = load_mvtec_ad(arguments.data, "bottle", split="train").images
    few = {"n_patches": 50, "max_epochs": 1, "random_state": 0}
    reconstruction = PatchReconstruction(error="squared", **few).fit(images[:60])
    svm = PatchLatentSVM(svm_patch_sizes=(63,), **few).fit(images[:60])
    pixels = torch.from_numpy(data.astronaut().astype(np.float32) / 255).permute(2, 0, 1)[None]
    slow_roads = {
        "PatchReconstruction": (reconstruction, 4, reconstruction_by_patches),
        "PatchReconstruction, stride 1": (reconstruction, 1, None),
        "PatchLatentSVM": (svm, 4, svm_by_patches),
        "PatchLatentSVM, scikit-learn": (svm, 4, sklearn_by_patches),
        "PatchLatentSVM, stride 1": (svm, 1, None),
    }
    results = Results("patch_dense")
    for name, (detector, stride, by_patch) in slow_roads.items():
        detector.set_params(stride=stride)
        roads = {"dense": lambda d=detector: d._compute_maps(pixels)}
        if by_patch is not None:
            roads["patch by patch"] = lambda d=detector, f=by_patch: f(d, pixels)
        times, maps = {road: [] for road in roads}, {}
        for _ in range(arguments.rounds):
            for road, run in roads.items():
                with torch.inference_mode():
                    start = time.perf_counter()
                    maps[road] = run()
                    times[road].append(time.perf_counter() - start)
        row = {"size": list(pixels.shape[1:]), "stride": stride, **times}
        if by_patch is not None:
            slow = maps["patch by patch"]
            dense = maps["dense"]
            if slow.shape != dense.shape:  # the dense road's map is interpolated between places
                rows, columns = (patch_places(n, stride) for n in pixels.shape[2:])
                dense = dense[:, rows][:, :, columns]
            difference = (dense - slow).abs().max() / slow.abs().max()
            row["largest relative difference"] = float(difference)
        if "SVM" in name:
            row["support vectors"] = len(detector.machines_[0].alpha)
        results[name] = row
        print(name, row, flush=True)
    lines = []
    for name, row in results.rows.items():
        dense = np.median(row["dense"])
        slow = np.median(row["patch by patch"]) if "patch by patch" in row else None
        lines.append(
            [
                name,
                row["stride"],
                f"{dense:.3f} s",
                *(
                    ["", "", ""]
                    if slow is None
                    else [
                        f"{slow:.2f} s",
                        f"{slow / dense:.0f}",
                        f"{row['largest relative difference']:.0e}",
                    ]
                ),
            ]
        )
    results.write_table(
        "Dense evaluation against patch by patch",
        "python benchmarks/patch_dense.py",
        NOTES,
        ["map", "stride", "dense", "patch by patch", "times faster", "difference"],
        lines,
    )


if __name__ == "__main__":
    main()

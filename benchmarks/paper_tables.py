"""Tables 1, 3 and 4 of arXiv 2405.09148, ours beside what is printed.

Rows are those of accuracy.py, which are measured first where they are missing.
"""

import argparse

import numpy as np
from _common import DEFAULT_BACKBONE, NO_BACKBONE, Results, run_arguments
from _printed import CATEGORIES, PRINTED
from accuracy import MEASURED, UNTRAINED, measure, write_accuracy

#: Ours for each printed method. The "AE"s differ in what they are trained by.
OURS = {
    "AE_ssim": "ConvAE",
    "AE_l2": "ConvAE(loss='l2')",
    "CAVGA-D_u": "CAVGA",
    "VAE_grad": "VAEGrad",
    "Patch_SVDD": "PatchSVDD",
    "MKD": "MKD",
    "SPADE": "SPADE",
    "STPM": "STFPM",
    "PaDiM": "PaDiM",
    "HFR-AE_R18": "HFR-AE",
}
#: Not in the paper's tables, and measured with the same command.
BESIDE = ("ReverseDistillation", "SuperSimpleNet", "LocalContrast", "MedianDifference")
#: What stands for a category where that cannot be had.
STAND_INS = {"leather": "leather_tile"}
NOTES = """Printed figures are of MVTec AD's official test split, as arXiv 2405.09148 gives them;
our rows are at our defaults, at 256x256, with the network that is named, mean ± standard
deviation over seeds. "mean" is over the categories of this table. Printed with a WideResNet-50-2,
or a VGG-16 (MKD), are SPADE, MKD and HFR-AE_wR50, whose weights could not be had where ours were
measured. "untrained" is the same detector whose training moves no weight. Below the paper's
methods stand two that it does not compare with, and two that learn nothing or next to nothing:
the floor.

*bottle* is the official split, resized to 256x256. For *grid* the official good test images could
not be had: `test/good` holds the last 21 of the 264 training images, and training uses the first
243. For *leather*, where it is not there as a whole, stand tiles of 256x256 of a part of it,
*leather_tile*. These are development categories, on whose test images defaults were chosen. Where
MVTec AD lies as a whole, the same command makes the whole tables. AnoGAN, f-AnoGAN, GANomaly and
Uninformed Students, which the paper names among related work only, are not part of this package."""


def categories_in(arguments):
    """The category that is measured for each that is printed, by its name."""
    found = {}
    for printed in CATEGORIES:
        for name in (printed, STAND_INS.get(printed, printed)):
            if any((d / name / "train").is_dir() for d in (arguments.data, arguments.textures)):
                found[printed] = name
                break
    return found


def lines_of(rows, figure, found):
    """A table's lines: what is printed of each method, and ours."""
    printed = PRINTED[figure]
    for method in [*printed, *BESIDE]:
        values = [printed[method][category] for category in found] if method in printed else []
        if values:
            yield [method, "printed", "", *map(_short, values), _short(np.mean(values))]
        name = OURS.get(method, method)
        for label, what in ((name, "ours"), (f"{name} untrained", "untrained")):
            for backbone in (NO_BACKBONE, "resnet18", DEFAULT_BACKBONE):
                ours = [_seeds(rows, label, category, backbone) for category in found.values()]
                if any(ours):
                    network = "" if backbone == NO_BACKBONE else backbone
                    cells = [_cell([row[figure] for row in seeds]) for seeds in ours]
                    yield [method if not values else "", what, network, *cells, _mean(ours, figure)]


def _seeds(rows, label, category, backbone):
    start = f"{label}, {category}, {backbone}, default, seed "
    return [row for key, row in rows.items() if key.startswith(start)]


def _mean(by_category, figure):
    if not all(by_category):
        return ""
    return _short(np.mean([np.mean([row[figure] for row in seeds]) for seeds in by_category]))


def _cell(values):
    if len(values) < 2:
        return _short(values[0]) if values else "not measured"
    return f"{_short(np.mean(values))} ± {_short(np.std(values))}"


def _short(value):
    return f"{value:.3f}".removeprefix("0")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    run_arguments(parser, seeds=[0], categories=())
    parser.add_argument("--as-it-is", action="store_true", help="of the rows that there are")
    parser.set_defaults(backbones=["resnet18"])
    arguments = parser.parse_args()
    found = categories_in(arguments)
    arguments.categories = list(found.values())
    names = [name for name in [*OURS.values(), *BESIDE] if name in MEASURED]
    arguments.detectors = [*names, *(u for n in names if (u := f"{n} untrained") in UNTRAINED)]
    results = Results("accuracy")
    if not arguments.as_it_is:
        measure(results, arguments)
        write_accuracy(results)
    header = ["method", "", "network", *found, "mean"]
    Results("paper_tables").write_tables(
        "Tables 1, 3 and 4 of the paper on HFR-AE",
        "python benchmarks/paper_tables.py",
        NOTES,
        {
            f"Table {number}: {figure}": (header, list(lines_of(results.rows, figure, found)))
            for number, figure in zip((1, 3, 4), PRINTED)
        },
    )


if __name__ == "__main__":
    main()

"""Printed figures are as the paper means them, and ours stand beside them."""

import sys
from pathlib import Path

import numpy as np
import pytest

# As the paper prints them below its tables.
MEANS = {
    "image AUROC": {
        "CAVGA-D_u": 0.78,
        "VAE_grad": 0.77,
        "SPADE": 0.855,
        "Patch_SVDD": 0.921,
        "MKD": 0.877,
        "HFR-AE_R18": 0.976,
        "HFR-AE_wR50": 0.986,
    },
    "pixel AUROC": {
        "AE_ssim": 0.87,
        "AE_l2": 0.82,
        "Patch_SVDD": 0.957,
        "SPADE": 0.965,
        "STPM": 0.970,
        "PaDiM": 0.975,
        "HFR-AE_R18": 0.966,
        "HFR-AE_wR50": 0.977,
    },
    "AUPRO": {
        "AE_ssim": 0.694,
        "AE_l2": 0.790,
        "Patch_SVDD": 0.857,
        "SPADE": 0.917,
        "STPM": 0.921,
        "PaDiM": 0.921,
        "HFR-AE_R18": 0.906,
        "HFR-AE_wR50": 0.925,
    },
}


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        import paper_tables
    finally:
        sys.path.pop(0)
    return paper_tables


@pytest.mark.parametrize("figure", MEANS)
def test_printed_columns_have_the_printed_means(figure, tables):
    """To .006: the paper's own means are not always those of its columns."""
    printed = tables.PRINTED[figure]
    found = {name: np.mean(list(values.values())) for name, values in printed.items()}
    assert found == pytest.approx(MEANS[figure], abs=0.006)


def test_ours_are_measured_and_cover_what_is_printed(tables):
    printed = {name for of_figure in tables.PRINTED.values() for name in of_figure}
    assert printed - set(tables.OURS) == {"HFR-AE_wR50"}
    assert {*tables.OURS.values(), *tables.BESIDE} <= set(tables.MEASURED)


def test_lines_of_a_table(tables):
    rows = {
        f"STFPM{what}, {category}, resnet18, default, seed {seed}": {"AUPRO": value + seed / 100}
        for what, value in (("", 0.9), (" untrained", 0.41))
        for category in ("bottle", "leather_tile")
        for seed in (0, 1)
    }
    del rows["STFPM untrained, bottle, resnet18, default, seed 1"]
    rows["STFPM untrained, bottle, resnet18, default, seed 0"]["AUPRO"] = 0.5
    found = {"bottle": "bottle", "leather": "leather_tile"}
    lines = list(tables.lines_of(rows, "AUPRO", found))
    i = next(i for i, line in enumerate(lines) if line[0] == "STPM")
    assert lines[i : i + 3] == [
        ["STPM", "printed", "", ".951", ".980", ".966"],
        ["", "ours", "resnet18", ".905 ± .005", ".905 ± .005", ".905"],
        ["", "untrained", "resnet18", ".500", ".415 ± .005", ".458"],
    ]

"""The pictures and the report of docs/evaluation.md, on generated defects."""

from pathlib import Path

import numpy as np
from _common import RESULTS
from matplotlib.figure import Figure

from skanomaly import HierarchicalFeatureAE
from skanomaly.datasets import make_texture_defects
from skanomaly.metrics import evaluate
from skanomaly.plotting import AnomalyMapDisplay, PROCurveDisplay, ScoreHistogramDisplay

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main():
    train = make_texture_defects("brick", split="train", n_normal=100, random_state=0)
    test = make_texture_defects("brick", split="test", n_normal=40, random_state=0)
    detector = HierarchicalFeatureAE(max_epochs=20, random_state=0).fit(train.images)
    report = evaluate(
        detector, test.images, test.masks, defect_types=test.defect_types, random_state=0
    )
    (RESULTS / "report.txt").write_text(f"{report}\n")
    (RESULTS / "report.html").write_text(report._repr_html_())
    print(report)

    defective = [np.flatnonzero(test.defect_types == kind)[0] for kind in ("crack", "stain")]
    shown = [0, 1, *defective]
    figure = Figure(figsize=(7.4, 9.6), layout="constrained", dpi=100)
    axes = figure.subplots(len(shown), 3, squeeze=False)
    AnomalyMapDisplay.from_estimator(detector, test.images[shown], test.masks[shown], ax=axes)
    figure.savefig(IMAGES / "maps.png")

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=100)
    left, right = figure.subplots(1, 2)
    found = detector.detect(test.images)
    ScoreHistogramDisplay.from_predictions(
        test.target, found.scores, threshold=detector.offset_, ax=left
    )
    PROCurveDisplay.from_predictions(test.masks, found.maps, name="HFR-AE", ax=right)
    figure.savefig(IMAGES / "curves.png")


if __name__ == "__main__":
    main()

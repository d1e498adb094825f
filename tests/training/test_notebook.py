"""A training in a notebook, run by a real kernel."""

import nbclient
import pytest
from nbformat.v4 import new_code_cell, new_notebook

FIT = """
import numpy as np
from skanomaly import ImageFiles
from skanomaly.exceptions import ThresholdWarning
from skanomaly.utils import all_detectors, small_detector
import warnings
warnings.simplefilter("ignore", ThresholdWarning)
X = np.random.default_rng(0).integers(0, 256, (12, 64, 64), np.uint8)
SelfSupervisedAE = dict(all_detectors())["SelfSupervisedAE"]
"""


@pytest.mark.slow
def test_a_bar_is_a_widget_and_files_are_pictures():
    fit = "small_detector(SelfSupervisedAE, max_epochs=2, verbose={}).fit(X).predict(X);"
    cells = [FIT, fit.format(1), fit.format(0), 'ImageFiles(["missing.png"])']
    book = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    done = nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    _, told, silent, files = (cell["outputs"] for cell in done.cells)
    (bar,) = told
    assert "application/vnd.jupyter.widget-view+json" in bar["data"]
    assert "training" in bar["data"]["text/plain"]
    widgets = done.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    (progress,) = [w["state"] for w in widgets.values() if w["model_name"] == "FloatProgressModel"]
    assert progress["value"] == progress["max"] == 2
    assert not silent
    assert "cannot be read" in files[0]["data"]["text/html"]

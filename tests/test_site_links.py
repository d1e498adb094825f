"""Where the "?" of an estimator's HTML representation leads to."""

import importlib
import inspect
import tomllib
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import skanomaly
from skanomaly import FeatureOutlierDetector, PaDiM, calibration, preprocessing, synthesis
from skanomaly._site import SITE, public_name
from skanomaly.base import BaseImageDetector
from skanomaly.detectors._trained_detector import TrainedDetector

ESTIMATORS = [
    f"{module.__name__}.{name}"
    for module in (
        skanomaly,
        calibration,
        preprocessing,
        synthesis,
        skanomaly.base,
        importlib.import_module("skanomaly.model_selection"),
        importlib.import_module("skanomaly.training"),
    )
    for name in getattr(module, "__all__", ["BaseImageDetector"])
    if inspect.isclass(getattr(module, name)) and issubclass(getattr(module, name), BaseEstimator)
]


def _of(name):
    module, _, name = name.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_leads_to_its_page(name):
    blank = object.__new__(_of(name))
    assert blank._get_doc_link() == f"{SITE}reference/generated/{name}.html"


def test_there_are_estimators_of_all_kinds():
    assert {"skanomaly.PaDiM", "skanomaly.EnsembleDetector"} < set(ESTIMATORS)
    assert {"skanomaly.calibration.DriftMonitor", "skanomaly.preprocessing.Align"} < set(ESTIMATORS)
    assert "skanomaly.training.AnomalyNet" in ESTIMATORS


def test_what_is_not_public_has_no_page_of_its_own():
    assert public_name(TrainedDetector) is None
    assert object.__new__(TrainedDetector)._get_doc_link() == f"{SITE}reference/index.html"


class Mine(BaseImageDetector):
    """A detector of someone else's."""


def test_a_class_of_someone_elses_leads_nowhere():
    assert Mine()._get_doc_link() == ""


def test_estimators_of_scikit_learns_inside_lead_to_its_own_pages():
    detector = FeatureOutlierDetector(OneClassSVM())
    html = make_pipeline(StandardScaler(), detector)._repr_html_()
    assert f"{SITE}reference/generated/skanomaly.FeatureOutlierDetector.html" in html
    for page in ("sklearn.svm.OneClassSVM", "sklearn.preprocessing.StandardScaler"):
        assert f"modules/generated/{page}.html" in html
    assert "https://scikit-learn.org/" in html
    assert f"{SITE}reference/generated/skanomaly.PaDiM.html" in PaDiM()._repr_html_()


def test_the_projects_metadata_names_the_same_site():
    path = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Documentation"] == SITE

import subprocess
import sys

import pytest

import skanomaly

HEAVY = ("torch", "timm", "skorch", "onnxruntime", "matplotlib", "skimage")


def test_import_brings_no_heavy_package():
    code = f"import sys, skanomaly; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_importing_detectors_and_plotting_leaves_lazy_packages_alone():
    lazy = ("timm", "onnxruntime", "matplotlib")
    code = (
        "import sys, skanomaly, skanomaly.plotting;"
        "[getattr(skanomaly, name) for name in skanomaly.__all__];"
        f"print([m for m in {lazy} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in skanomaly.__all__:
        assert getattr(skanomaly, name) is not None
        assert name in dir(skanomaly)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(skanomaly, "Nothing")  # noqa: B009

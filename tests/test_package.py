import subprocess
import sys

import pytest

import skanomaly

HEAVY = ("torch", "timm", "skorch", "onnxruntime", "matplotlib", "skimage")


def test_import_brings_no_heavy_package():
    code = f"import sys, skanomaly; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("heavy", ["onnxruntime", "matplotlib", "timm"])
def test_importing_a_detector_leaves_lazy_packages_alone(heavy):
    code = (
        f"import sys, skanomaly; skanomaly.HierarchicalFeatureAE; print({heavy!r} in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_every_public_name_is_there():
    for name in skanomaly.__all__:
        assert getattr(skanomaly, name) is not None
        assert name in dir(skanomaly)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        getattr(skanomaly, "Nothing")  # noqa: B009

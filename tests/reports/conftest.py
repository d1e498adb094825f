"""A report on small images with drawn defects, and names that no page should trip over."""

import pytest

from skanomaly import PaDiM
from skanomaly.datasets import make_texture_defects
from skanomaly.reports import inspection_report

NASTY = (
    "</script><script>document.title='caught'</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "quotes \"double\" and 'single', commas.png",
    "\udcff\udcfe no utf-8.png",
    "line\nbreak\u2028\u2029.png",
    "{{script}} ${x} &amp; \U0001f50d ä.png",
    "__proto__",
    "=1+1.png",
)


@pytest.fixture(scope="session")
def padim():
    train = make_texture_defects("brick", n_normal=40, image_size=64, random_state=0)
    settings = {"n_features": 60, "smoothing": 1.0, "false_alarm_rate": 0.2, "batch_size": 8}
    return PaDiM(image_size=64, random_state=0, **settings).fit(train.images)


@pytest.fixture(scope="session")
def parts():
    """12 good and 12 defective images."""
    return make_texture_defects(
        "brick", split="test", n_normal=12, n_defective=12, image_size=64, random_state=0
    )


@pytest.fixture(scope="session")
def names(parts):
    plain = [f"part {i}.png" for i in range(len(NASTY), len(parts.images))]
    return [*NASTY, *plain]


@pytest.fixture(scope="session")
def report(padim, parts, names):
    return inspection_report(
        padim,
        parts.images,
        masks=parts.masks,
        defect_types=parts.defect_types,
        groups=[f"lot {i % 3}" for i in range(len(names))],
        names=names,
        title='<b>Bricks</b> & "more"',
    )

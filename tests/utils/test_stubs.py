import inspect
from pathlib import Path

import skanomaly
from skanomaly.utils.stubs import stub


def test_the_stub_is_up_to_date():
    found = Path(skanomaly.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert found == stub(), "run python -m skanomaly.utils.stubs"


def test_the_stub_has_every_public_name_and_parameter():
    names = {}
    exec(compile(stub().replace("from .", "from skanomaly."), "stub", "exec"), names)
    for name in skanomaly.__all__:
        assert name in names
        public = getattr(skanomaly, name)
        if inspect.isclass(public) and public.__module__.split(".")[1] in ("detectors", "compose"):
            found = inspect.signature(names[name].__init__).parameters
            expected = inspect.signature(public.__init__).parameters
            assert list(found) == list(expected)
            assert [p.kind for p in found.values()] == [p.kind for p in expected.values()]

"""Virtual environments of a benchmark's own, and what is installed in one."""

import json
import subprocess
import venv

SIZES = """
import json, sys
from importlib.metadata import distribution
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
sizes, versions, seen, waiting = {}, {}, set(), [(sys.argv[1], frozenset())]
while waiting:
    name, extras = waiting.pop()
    if (name, extras) in seen:
        continue
    seen.add((name, extras))
    found = distribution(name)
    files = [file.locate() for file in found.files or ()]
    sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
    versions[name] = found.version
    for line in found.requires or ():
        needed = Requirement(line)
        marker = needed.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
            waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
print(json.dumps([sizes, versions]))
"""


def new_environment(folder, *requirements):
    """The interpreter of a virtual environment with these, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if requirements:
        subprocess.run([python, "-m", "pip", "install", "-q", *map(str, requirements)], check=True)
    return python


def installed(python, distribution):
    """MiB and version of a distribution and of each that it requires, without extras, by name."""
    printed = subprocess.check_output([python, "-c", SIZES, distribution], text=True)
    sizes, versions = json.loads(printed)
    return {name: size / 2**20 for name, size in sizes.items()}, versions

"""Takes what serves an exported detector from skanomaly itself, so that it is written once."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

#: Files below ``skanomaly/``; those beside this one under ``skanomaly_runtime/`` are its own.
SHARED = (
    "_process.py",
    "_validation.py",
    "_version.py",
    "exceptions.py",
    "images/*.py",
    "calibration/_thresholds.py",
    "deployment/_bunch.py",
    "deployment/_onnx_file.py",
    "deployment/_onnx_messages.py",
    "deployment/_onnx_sizes.py",
    "deployment/onnx_detector.py",
)


def shared_files(root):
    """Files that are shared, by their place in the distribution.

    Parameters
    ----------
    root : str or Path
        Folder of this file.

    Returns
    -------
    dict of Path by str
        Empty in a source distribution, which holds them at their place already.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    if (Path(root) / "skanomaly_runtime" / "_version.py").exists():
        return {}
    package = Path(root).resolve().parent / "skanomaly"
    found = {}
    for pattern in SHARED:
        files = sorted(package.glob(pattern))
        if not files:
            raise FileNotFoundError(
                f"{package / pattern} is not there: build from a checkout of skanomaly, where "
                "runtime/ lies beside skanomaly/, or from a source distribution"
            )
        for file in files:
            found[f"skanomaly_runtime/{file.relative_to(package).as_posix()}"] = file
    return found


class CustomMetadataHook(MetadataHookInterface):
    """The version is skanomaly's."""

    def update(self, metadata):
        """Read it."""
        own = "skanomaly_runtime/_version.py"
        file = shared_files(self.root).get(own, Path(self.root) / own)
        values = {}
        exec(file.read_text(encoding="utf-8"), values)
        metadata["version"] = values["__version__"]


class CustomBuildHook(BuildHookInterface):
    """What is shared goes into wheels and source distributions."""

    def initialize(self, version, build_data):
        """Name it."""
        if version == "editable":
            raise ValueError(
                "skanomaly-runtime cannot be installed as editable, as its files are taken from "
                "skanomaly when it is built: install it without -e"
            )
        found = shared_files(self.root)
        build_data["force_include"].update({str(file): place for place, file in found.items()})

"""What the benchmarks share: machine facts, results that survive an interruption, tables."""

import json
import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("skanomaly", "torch", "timm", "onnxruntime", "skorch", "scikit-learn", "numpy")


def machine_facts():
    """What a figure depends on besides the code."""
    import torch

    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "date": str(date.today()),
        "cpu": model,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


class Results:
    """Rows by key, in a JSON file that is rewritten after each, so that a run can go on."""

    def __init__(self, name):
        self.path = RESULTS / f"{name}.json"
        self.rows = self._read()

    def _read(self):
        return json.loads(self.path.read_text())["rows"] if self.path.exists() else {}

    def __contains__(self, key):
        return key in self.rows

    def __setitem__(self, key, row):
        self.rows = {**self._read(), key: row}  # another process may have added some
        content = {"machine": machine_facts(), "rows": self.rows}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(self.path)

    def write_table(self, title, command, notes, header, lines):
        """A Markdown file beside the JSON: what was run, on what, and what came out."""
        facts = ", ".join(f"{key} {value}" for key, value in machine_facts().items() if value)
        table = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *lines)]
        table.insert(1, "|" + " --- |" * len(header))
        text = "\n".join(
            [f"# {title}", "", f"`{command}`", "", f"Machine: {facts}.", "", notes, "", *table, ""]
        )
        self.path.with_suffix(".md").write_text(text)
        print("\n".join(table))


def data_arguments(parser):
    """Where real images and weights lie."""
    shared = Path(os.environ.get("SKANOMALY_SHARED", Path(__file__).parents[2] / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data" / "mvtec_ad")
    parser.add_argument(
        "--resnet18-weights",
        type=Path,
        default=shared / "weights" / "resnet18_imagenet_layers1-3.safetensors",
    )


def has_backbone(make):
    """Whether a detector, made by its class or another callable, runs a pretrained network."""
    return "backbone" in make().get_params(deep=False)


def with_scores_by(detector, images, parameters):
    """A fitted detector with other values of parameters that scores depend on.

    Its threshold, for which ranks have no use, is set from some normal images.
    """
    return detector.set_params(**parameters).calibrate(images[:20]) if parameters else detector


def backbones(arguments):
    """Parameters of the encoders that are compared."""
    return {
        "resnet18": {"backbone": "resnet18", "weights": arguments.resnet18_weights},
        "tf_efficientnet_lite0": {},
    }

"""What the benchmarks share: data, machine facts, results that survive an interruption, tables."""

import json
import os
import platform
import time
import warnings
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score

from skanomaly.datasets import load_mvtec_ad
from skanomaly.exceptions import ThresholdWarning
from skanomaly.metrics import aupro_score, pixel_roc_auc_score

RESULTS = Path(os.environ.get("SKANOMALY_RESULTS", Path(__file__).parent / "results"))
PACKAGES = ("skanomaly", "torch", "timm", "onnxruntime", "skorch", "scikit-learn", "numpy")
PAPERS = ("paper_flr01", "paper_fvn01")
DEVELOPMENT = ("bottle", "grid", "leather_tile", "magnetic_tile", *PAPERS)
DATA_NOTES = """Data: development categories, on whose test images defaults were chosen, so that
figures on other data will be lower. *bottle* is MVTec AD's official split, resized to 256x256.
For *grid*, at 512x512, the official good test images were not to be had: `test/good` holds the
last 21 of the 264 official training images and training uses the first 243, so its figures are not
comparable digit by digit with published ones. *leather_tile* is tiles of 256x256 of that part of
MVTec AD's leather which could be had, *magnetic_tile* whole images of mixed sizes (Huang et al.
2018), *paper_flr01* and *paper_fvn01* papers with tiny impurities, 128x128 (PIPED, Bianconi et al.
2014)."""
METRICS = ("image AUROC", "pixel AUROC", "AUPRO")
NO_BACKBONE = "none"
DEFAULT_BACKBONE = "tf_efficientnet_lite0"
BACKBONES = (DEFAULT_BACKBONE, "resnet18")


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
        RESULTS.mkdir(parents=True, exist_ok=True)
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
        self.write_tables(title, command, notes, {"": (header, lines)})

    def write_tables(self, title, command, notes, tables):
        """The same of several tables, (header, lines) by heading; empty ones are left out."""
        facts = ", ".join(f"{key} {value}" for key, value in machine_facts().items() if value)
        parts = [f"# {title}", f"`{command}`", f"Machine: {facts}.", notes]
        for heading, (header, lines) in tables.items():
            if not lines:
                continue
            table = ["| " + " | ".join(map(str, line)) + " |" for line in (header, *lines)]
            table.insert(1, "|" + " --- |" * len(header))
            parts += [f"## {heading}", "\n".join(table)] if heading else ["\n".join(table)]
        self.path.with_suffix(".md").write_text("\n\n".join(parts) + "\n")
        print("\n\n".join(parts[4:]))


def data_arguments(parser):
    """Where real images and weights lie."""
    shared = Path(os.environ.get("SKANOMALY_SHARED", Path(__file__).parents[2] / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data" / "mvtec_ad")
    parser.add_argument("--textures", type=Path, default=shared / "data" / "textures")
    parser.add_argument(
        "--resnet18-weights",
        type=Path,
        default=shared / "weights" / "resnet18_imagenet_layers1-3.safetensors",
    )


def run_arguments(parser, seeds, categories=DEVELOPMENT):
    """What is run, where a benchmark goes through categories, backbones and seeds."""
    data_arguments(parser)
    parser.add_argument("--categories", nargs="+", default=list(categories))
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=[DEFAULT_BACKBONE])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))


def roots_of(arguments, categories):
    """The folder that each category lies in, by its name; says which are skipped."""
    folders = (arguments.data, arguments.textures)
    roots = {}
    for name in categories:
        found = [folder for folder in folders if (folder / name / "train").is_dir()]
        if found:
            roots[name] = found[0]
        else:
            print(f"{name} is skipped: it is neither in {folders[0]} nor in {folders[1]}")
    return roots


class Split(NamedTuple):
    """A category's training and test images, each a Bunch."""

    train: object
    test: object


def load_split(root, category):
    return Split(*(load_mvtec_ad(root, category, split=split) for split in ("train", "test")))


def as_arrays(images):
    """Images that are read once, for those who look at them many times."""
    return [images[i] for i in range(len(images))]


def figures_of(test, found, chosen=None):
    """Image AUROC, pixel AUROC and AUPRO of what `detect` found, of chosen test images."""
    chosen = range(len(test.target)) if chosen is None else chosen
    scores, target = found.scores[chosen], test.target[chosen]
    masks, maps = ([a[i] for i in chosen] for a in (test.masks, found.maps))
    return {
        "image AUROC": roc_auc_score(target, scores),
        "pixel AUROC": pixel_roc_auc_score(masks, maps),
        "AUPRO": aupro_score(masks, maps),
    }


def spread(values, digits=".3f"):
    return f"{np.mean(values):{digits}} ± {np.std(values):{digits}}"


def spreads(rows, metrics=METRICS):
    """A cell for each metric of some rows."""
    return [spread([row[m] for row in rows]) if m in rows[0] else "" for m in metrics]


def grouped(rows, n_keys):
    """Rows of a `Results` by the first words of their keys, sorted."""
    groups = {}
    for key, row in rows.items():
        groups.setdefault(tuple(key.split(", ")[:n_keys]), []).append(row)
    return sorted(groups.items())


def means_over(rows, categories, at):
    """Rows averaged over categories, seed by seed.

    Keys are split at ", ": the category is what stands at ``at``, the seed comes last. Only
    what was measured in all of the categories has a mean that can be compared; other seeds, and
    groups without a common one, are left out.

    Returns
    -------
    dict of list of dict
        Mean rows, one a seed, by the other words of their keys.
    """
    found = {}
    for key, row in rows.items():
        words = key.split(", ")
        category = words.pop(at)
        found.setdefault(tuple(words[:-1]), {}).setdefault(words[-1], {})[category] = row
    means = {}
    for group, seeds in found.items():
        for of_seed in seeds.values():
            if all(category in of_seed for category in categories):
                chosen = [of_seed[category] for category in categories]
                numbers = [k for k in chosen[0] if np.isscalar(chosen[0][k])]
                shared = [k for k in numbers if all(k in row for row in chosen)]
                mean = {k: float(np.mean([row[k] for row in chosen])) for k in shared}
                means.setdefault(group, []).append(mean)
    return means


def made(make, **parameters):
    """A detector with its parameters of these names, those of parts of it too."""
    detector = make()
    known = {name: name.rpartition("__")[2] for name in detector.get_params()}
    chosen = {name: parameters[last] for name, last in known.items() if last in parameters}
    return detector.set_params(**chosen)


def untrained(make):
    """A detector whose training moves no weight: an epoch at a rate that is lost in rounding.

    All else that a fit finds is as of a trained one: normalisation's statistics, centres,
    memories, units of maps.
    """
    names = [name.rpartition("__")[2] for name in make().get_params()]
    rates = [name for name in names if name == "lr" or name.endswith("_lr")]
    return made(make, **dict.fromkeys(rates, 1e-30), max_epochs=1)


def fit(detector, images, **options):
    """Seconds that a fit takes; that few images make a poor threshold matters to no rank."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ThresholdWarning)
        detector.fit(images, **options)
    return time.perf_counter() - start


def peak_MiB():
    """Most memory that this process has held so far; getrusage would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def has_backbone(make):
    """Whether a detector, made by its class or another callable, runs a pretrained network."""
    return any(name.rpartition("__")[2] == "backbone" for name in make().get_params())


def with_scores_by(detector, parameters):
    """A fitted detector with other values of parameters that scores depend on.

    Its threshold, for which ranks have no use, and the units of its maps stay those of the fit:
    to calibrate by images that were learnt from would be worse.
    """
    if parameters:
        detector.set_params(**parameters)
        detector.fitted_parameters_ = detector._parameters_that_affect("maps", "scores")
    return detector


def backbones(arguments):
    """Parameters of the encoders that are compared."""
    return {
        "resnet18": {"backbone": "resnet18", "weights": arguments.resnet18_weights},
        DEFAULT_BACKBONE: {},
    }


def memory_and_subspace(**memory):
    """The first two members of what to start with, with these parameters of its memory."""
    from skanomaly import make_ensemble

    all_members = make_ensemble()
    two = {name: getattr(all_members, name)[:2] for name in ("detectors", "detector_weights")}
    return all_members.set_params(**two, **{f"memory__{name}": v for name, v in memory.items()})

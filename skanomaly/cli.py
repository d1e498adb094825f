"""The command line: ``skanomaly demo``, ``skanomaly fit``, ``skanomaly score``."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from . import __version__
from .exceptions import BackboneError, InvalidImageError, TrainingError


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str or None, default=None
        Arguments; None takes the process's own.

    Returns
    -------
    int
        Exit status: 0 when all went well, 1 when some images could not be scored,
        2 when nothing could be done.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (InvalidImageError, BackboneError, TrainingError, _UsageError) as error:
        print(f"skanomaly: error: {error}", file=sys.stderr)
        return 2


class _UsageError(ValueError):
    """What the user asked for cannot be done."""


def _parser():
    parser = argparse.ArgumentParser(
        prog="skanomaly", description="Visual anomaly detection: fit on good parts, score new ones."
    )
    parser.add_argument("--version", action="version", version=f"skanomaly {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="fit and evaluate on generated defects, no data needed")
    demo.add_argument("--texture", choices=["brick", "grass", "gravel"], default="brick")
    demo.add_argument("--out", default="skanomaly-demo.png", metavar="PNG")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)

    fit = commands.add_parser("fit", help="fit a detector on a folder of good parts")
    fit.add_argument("folder", help="images of good parts, or a folder with train/good in it")
    fit.add_argument("-o", "--out", required=True, metavar="MODEL", help="such as model.joblib")
    fit.add_argument("--backbone", default="tf_efficientnet_lite0", help="a network of timm")
    fit.add_argument("--weights", default="imagenet", help='"imagenet" or a file')
    fit.add_argument("--image-size", type=int, default=256, help="pixels that the network sees")
    fit.add_argument("--max-epochs", type=int, default=None)
    fit.add_argument(
        "--false-alarm-rate",
        type=float,
        default=0.05,
        help="share of good parts that may be flagged",
    )
    fit.add_argument("--device", default="auto")
    fit.add_argument("--seed", type=int, default=None)
    fit.set_defaults(run=_fit)

    score = commands.add_parser("score", help="score the images of a folder")
    score.add_argument("model", help="a file written by skanomaly fit; only open files you trust")
    score.add_argument("folder", help="images, also in sub-folders")
    score.add_argument("--out", default="scores.csv", metavar="CSV")
    score.add_argument("--maps", metavar="DIR", help="write a picture of each map there")
    score.set_defaults(run=_score)
    return parser


def _demo(arguments):
    _require_matplotlib()
    with _replacing(arguments.out) as part:
        start = time.perf_counter()
        _save_demo_sheet(part, *_run_demo(arguments.texture, arguments.seed))
    print(f"Sheet: {arguments.out}   ({time.perf_counter() - start:.0f} s in all)")
    return 0


def _run_demo(texture, seed):
    from sklearn.metrics import roc_auc_score

    from . import HierarchicalFeatureAE
    from .datasets import make_texture_defects
    from .metrics import aupro_score, pixel_roc_auc_score

    print(f"Real texture: {texture} (a photograph). Fitting on 100 crops without defects ...")
    train = make_texture_defects(texture, split="train", n_normal=100, random_state=seed)
    test = make_texture_defects(texture, split="test", n_normal=40, random_state=seed)
    detector = HierarchicalFeatureAE(random_state=seed, verbose=1).fit(train.images)
    print(f"Scoring {len(test.images)} crops of another part of it, with generated defects ...")
    found = detector.detect(test.images)

    good = test.defect_types == "good"
    print(f"\n{'defect':<10}{'images':>8}{'image AUROC':>13}{'pixel AUROC':>13}{'AUPRO':>8}")
    for name in [*dict.fromkeys(test.defect_types[~good]), "all"]:
        chosen = good | (test.defect_types == name) if name != "all" else good | ~good
        masks, maps = test.masks[chosen], found.maps[chosen]
        image_auroc = roc_auc_score(test.target[chosen], found.scores[chosen])
        print(
            f"{name:<10}{(chosen & ~good).sum():>8}{image_auroc:>13.3f}"
            f"{pixel_roc_auc_score(masks, maps):>13.3f}{aupro_score(masks, maps):>8.3f}"
        )
    flagged = found.labels == -1
    print(
        f"\nAt the detector's own threshold: {flagged[~good].sum()} of {(~good).sum()} defects "
        f"found, {flagged[good].sum()} of {good.sum()} good crops flagged."
    )
    return test, found, -detector.offset_


def _save_demo_sheet(file, test, found, threshold):
    from .plotting import plot_sheet

    names = dict.fromkeys(test.defect_types)
    columns = [np.flatnonzero(test.defect_types == name)[:3] for name in names]
    shown = [column[row] for row in range(3) for column in columns]
    figure = plot_sheet(
        test.images[shown],
        found.maps[shown],
        masks=test.masks[shown],
        titles=[f"{test.defect_types[i]} {-found.scores[i] / threshold:.2f}" for i in shown],
        flagged=found.labels[shown] == -1,
        limit=2 * threshold,
        n_columns=len(columns),
    )
    figure.suptitle(
        "Score as a multiple of the threshold; red = flagged, blue = where the defect is", size=9
    )
    figure.savefig(file, format="png")


def _fit(arguments):
    import joblib

    from . import HierarchicalFeatureAE
    from .datasets import load_image_folder

    images = load_image_folder(arguments.folder, split="train").images
    settings = {} if arguments.max_epochs is None else {"max_epochs": arguments.max_epochs}
    detector = HierarchicalFeatureAE(
        backbone=arguments.backbone,
        weights=arguments.weights,
        image_size=arguments.image_size,
        false_alarm_rate=arguments.false_alarm_rate,
        device=arguments.device,
        random_state=arguments.seed,
        n_jobs=os.cpu_count(),
        verbose=1,
        **settings,
    )
    with _replacing(arguments.out) as part:  # first, so that a wrong path costs no training
        joblib.dump(detector.fit(images), part)
    print(f"Fitted on {len(images)} images; threshold {-detector.offset_:.4g}: {arguments.out}")
    return 0


def _score(arguments):
    from tqdm import tqdm

    from .images import ImageFiles

    detector = _load(arguments.model)
    if arguments.maps:
        _require_matplotlib()
    folder = Path(arguments.folder)
    paths = list(ImageFiles.from_folder(folder, recursive=True).paths)
    n_failed = n_flagged = 0
    with (
        _replacing(arguments.out) as part,
        open(part, "w", newline="", encoding="utf-8") as file,
        tqdm(total=len(paths), desc="scoring", unit="image") as bar,
    ):
        rows = csv.writer(file)
        rows.writerow(["file", "score", "decision", "label", "error"])
        for start in range(0, len(paths), detector.batch_size):
            chunk = paths[start : start + detector.batch_size]
            for path, score, label, anomaly_map, error in _detect_readable(detector, chunk):
                name = Path(path).relative_to(folder)
                if error is not None:
                    n_failed += 1
                    print(f"skanomaly: {name}: {error}", file=sys.stderr)
                    rows.writerow([name, "", "", "", error])
                    continue
                n_flagged += label == -1
                rows.writerow([name, f"{score:.9g}", f"{score - detector.offset_:.9g}", label, ""])
                if arguments.maps:
                    _save_map(Path(arguments.maps) / f"{name}.map.png", anomaly_map, detector)
            bar.update(len(chunk))
    n_scored = len(paths) - n_failed
    print(f"{n_scored} scored, {n_flagged} flagged, {n_failed} failed: {arguments.out}")
    return 1 if n_failed else 0


def _detect_readable(detector, paths):
    """(path, score, label, map, error) of each image; what cannot be read has an error."""
    errors, left = {}, list(paths)
    while left:
        try:
            found = detector.detect(left)
            break
        except InvalidImageError as error:
            errors[left.pop(error.index)] = error.reason
    good = iter(zip(found.scores, found.labels, found.maps)) if left else iter(())
    for path in paths:
        if path in errors:
            yield path, None, None, None, errors[path]
        else:
            yield path, *next(good), None


def _load(path):
    import joblib

    from .base import BaseImageDetector

    if not Path(path).is_file():
        raise _UsageError(f"there is no model {path}; make one with skanomaly fit")
    try:
        detector = joblib.load(path)
    except Exception as error:
        raise _UsageError(f"{path} cannot be loaded as a model ({error})") from error
    if not isinstance(detector, BaseImageDetector):
        raise _UsageError(f"{path} holds a {type(detector).__name__}, expected a detector")
    return detector


def _save_map(path, anomaly_map, detector):
    from matplotlib.image import imsave

    # The threshold is in the middle of the scale, so good parts stay dark.
    limit = 2 * detector.map_threshold_
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as part:
        imsave(part, anomaly_map, cmap="inferno", vmin=0, vmax=limit, format="png")


def _require_matplotlib():
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise _UsageError("pictures need matplotlib; pip install 'skanomaly[plot]'") from None


@contextmanager
def _replacing(path):
    """A file to write to that takes the place of `path` only when it is whole."""
    path = Path(path)
    if not path.parent.is_dir():
        raise _UsageError(f"there is no folder {path.parent} to write {path.name} into")
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield part
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

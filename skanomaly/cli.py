"""The command line: ``skanomaly demo``, ``skanomaly fit``, ``skanomaly score``."""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path

from ._atomic import replaced
from ._console import lasting_streams, stopping_on_signals
from ._version import __version__
from .exceptions import InvalidImageError, TrainingError

BROKEN_PIPE = 128 + 13  # as of a program that SIGPIPE ends

_EXIT_STATUS = """\
exit status:
  0    all went well
  1    some images could not be scored, or their maps not written; the others were
  2    nothing could be done: wrong arguments, no model, no images, nowhere to write
  128 + n  ended by signal n: 130 by Ctrl-C, 143 by SIGTERM, 141 when nobody reads the
       output any more; what was to be replaced is as it was
"""

_OF_SCORES = """\
The CSV file has a line an image: its name below FOLDER, score (higher = more normal),
decision (negative = anomalous), label (1 normal, -1 anomalous), and what is wrong with a file
that could not be scored. Names have the bytes that they have on disk. A name that begins with
= + - @, a tab or a line's end, which a spreadsheet would run as a formula, has an apostrophe
before it.
"""


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
        2 when nothing could be done, 128 + n when signal n ended it.
    """
    with lasting_streams(), stopping_on_signals() as received:
        try:
            arguments = _parser().parse_args(argv)
            return arguments.run(arguments)
        except KeyboardInterrupt:
            number = received[0] if received else signal.SIGINT
            _say(f"stopped by {signal.Signals(number).name}")
            return 128 + number
        except BrokenPipeError:
            return BROKEN_PIPE
        except (ValueError, OSError, TrainingError) as error:
            _say(f"error: {_text_of(error)}")
        except MemoryError:
            _say("error: there is not enough memory")
        return 2


class _UsageError(ValueError):
    """What the user asked for cannot be done."""


def _say(text):
    """Tell the user that something is not as it should be."""
    print(f"skanomaly: {text}", file=sys.stderr)


def _report(text, out):
    """Tell the user what was done: on standard output, unless that is where it was done."""
    print(text, file=sys.stderr if _is_standard_output(out) else sys.stdout)


def _is_standard_output(path):
    with suppress(OSError):
        return path == "-" or os.path.samestat(os.stat(path), os.fstat(1))
    return False


def _text_of(error):
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _parser():
    parser = argparse.ArgumentParser(
        prog="skanomaly",
        description="Visual anomaly detection: fit on good parts, score new ones.",
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    fit.add_argument(
        "-o", "--out", required=True, metavar="MODEL", help="such as model.skanomaly; - is stdout"
    )
    fit.add_argument(
        "--pickle",
        action="store_true",
        help="write a pickle, for joblib.load, instead of the format of skanomaly.save",
    )
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

    score = commands.add_parser(
        "score",
        help="score the images of a folder",
        epilog=f"{_OF_SCORES}\n{_EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    score.add_argument(
        "model", help="a file of skanomaly fit, skanomaly.save or export_onnx, whatever its name"
    )
    score.add_argument("folder", help="images, also in sub-folders")
    score.add_argument("--out", default="scores.csv", metavar="CSV", help="- is stdout")
    score.add_argument("--maps", metavar="DIR", help="write a picture of each map there")
    score.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load a model that is a pickle, which may run any code of its author's",
    )
    score.set_defaults(run=_score)
    return parser


def _demo(arguments):
    _require_matplotlib()
    with replaced(arguments.out) as file:
        start = time.perf_counter()
        _save_demo_sheet(file, *_run_demo(arguments.texture, arguments.seed))
    print(f"Sheet: {arguments.out}   ({time.perf_counter() - start:.0f} s in all)")
    return 0


def _run_demo(texture, seed):
    from sklearn.metrics import roc_auc_score

    from .datasets import make_texture_defects
    from .detectors.hierarchical_feature_ae import HierarchicalFeatureAE
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
    import numpy as np

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

    from .datasets import load_image_folder
    from .deployment.files import save
    from .detectors.hierarchical_feature_ae import HierarchicalFeatureAE

    _check_device(arguments.device)
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
    with _opened(arguments.out) as file:  # first, so that a wrong path costs no training
        detector.fit(images)
        (joblib.dump if arguments.pickle else save)(detector, file)
    _report(
        f"Fitted on {len(images)} images; threshold {-detector.offset_:.4g}: {arguments.out} "
        f"({'a pickle' if arguments.pickle else 'for skanomaly score and skanomaly.load'})",
        arguments.out,
    )
    return 0


def _check_device(name):
    from torch import zeros

    from ._device import resolve_device

    try:
        zeros(1, device=resolve_device(name)).item()
    except Exception as error:  # of many kinds, by what the device lacks
        raise _UsageError(f"--device {name} cannot be used here ({error}); try auto") from None


def _score(arguments):
    from tqdm import tqdm

    from .images import ImageFiles

    detector = _load(arguments.model, arguments.trust_pickle)
    if arguments.maps:
        _require_matplotlib()
        Path(arguments.maps).mkdir(parents=True, exist_ok=True)
    folder = Path(arguments.folder)
    paths = list(ImageFiles.from_folder(folder, recursive=True).paths)
    n_scored = n_flagged = n_failed = 0
    with (
        _opened(arguments.out) as file,
        tqdm(total=len(paths), desc="scoring", unit="image") as bar,
    ):
        rows = csv.writer(_EncodedFile(file))
        rows.writerow(["file", "score", "decision", "label", "error"])
        for start in range(0, len(paths), detector.batch_size):
            chunk = paths[start : start + detector.batch_size]
            for path, found, error in _detect_readable(detector, chunk, bool(arguments.maps)):
                name = str(Path(path).relative_to(folder))
                if error is None:
                    score, label, anomaly_map = found
                    n_scored += 1
                    n_flagged += label == -1
                    values = f"{score:.9g}", f"{score - detector.offset_:.9g}", label, ""
                    rows.writerow([_no_formula(name), *values])
                    if arguments.maps:
                        error = _save_map(Path(arguments.maps), name, anomaly_map, detector)
                else:
                    rows.writerow([_no_formula(name), "", "", "", _no_formula(error)])
                if error is not None:
                    n_failed += 1
                    _say(f"{name}: {error}")
            file.flush()  # for who reads from a pipe
            bar.update(len(chunk))
    _report(
        f"{n_scored} scored, {n_flagged} flagged, {n_failed} failed: {arguments.out}",
        arguments.out,
    )
    return 1 if n_failed else 0


def _detect_readable(detector, paths, with_maps):
    """(path, (score, label, map or None), None) of each image, or (path, None, error)."""
    from ._unwrap import detect

    errors, left, found = {}, list(paths), None
    while left and found is None:
        try:
            found = detect(detector, left, with_maps=with_maps)
        except InvalidImageError as error:
            if error.index is None and len(left) > 1:  # find out which
                for path in paths:
                    yield from _detect_readable(detector, [path], with_maps)
                return
            errors[left.pop(error.index or 0)] = error.reason
    good = iter(())
    if found is not None:
        maps = found.maps if with_maps else repeat(None)
        good = iter(zip(found.scores, found.labels, maps))
    for path in paths:
        yield (path, None, errors[path]) if path in errors else (path, next(good), None)


def _load(path, trust_pickle):
    """The detector in a file, whose kind is seen from its content."""
    from .deployment import kind_of

    if not Path(path).is_file():
        raise _UsageError(f"there is no model {path}; make one with skanomaly fit")
    kind = kind_of(path)
    if kind == "onnx":
        from .deployment.onnx_detector import OnnxDetector

        return OnnxDetector(path)
    if kind == "skanomaly":
        from .deployment.files import load

        detector = load(path)
    elif kind == "pickle":
        detector = _load_pickle(path, trust_pickle)
    else:
        raise _UsageError(
            f"{path} is no model: neither of skanomaly fit, skanomaly.save or export_onnx, nor a "
            "pickle"
        )
    from ._image_detector import ImageDetector

    if not isinstance(detector, ImageDetector):
        has_products = hasattr(type(detector), "offsets_")
        hint = "; save one product's, detectors_[name]" if has_products else ""
        raise _UsageError(f"{path} holds a {type(detector).__name__}, expected a detector{hint}")
    if not hasattr(detector, "offset_"):
        raise _UsageError(f"{path} holds a {type(detector).__name__} that is not fitted; fit it")
    return detector


def _load_pickle(path, is_trusted):
    import joblib

    if not is_trusted:
        raise _UsageError(
            f"{path} is a pickle, which runs whatever code its author wrote; add --trust-pickle if "
            "you trust them, or have them write it with skanomaly.save"
        )
    try:
        return joblib.load(path)
    except Exception as error:
        raise _UsageError(f"{path} cannot be loaded as a model ({error})") from error


def _save_map(folder, name, anomaly_map, detector):
    """Write a picture; the error if that fails, which is no reason to leave the others."""
    from matplotlib.image import imsave

    # The threshold is in the middle of the scale, so good parts stay dark.
    limit = 2 * detector.map_threshold_
    path = folder / f"{name}.map.png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            imsave(file, anomaly_map, cmap="inferno", vmin=0, vmax=limit, format="png")
    except OSError as error:
        return f"its map cannot be written ({_text_of(error)})"
    return None


def _require_matplotlib():
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise _UsageError("pictures need matplotlib; pip install 'skanomaly[plot]'") from None


@contextmanager
def _opened(path):
    """A binary file to write, where - is standard output."""
    if path != "-":
        with replaced(path) as file:
            yield file
        return
    with os.fdopen(os.dup(1), "wb") as file:
        yield file


class _EncodedFile:
    """Lets a CSV writer write to a binary file, names with the bytes they have on disk."""

    def __init__(self, file):
        self.file = file

    def write(self, text):
        return self.file.write(text.encode("utf-8", "surrogateescape"))


def _no_formula(text):
    """A cell's text, which no spreadsheet takes for a formula (OWASP, "CSV injection")."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text

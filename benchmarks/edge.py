"""Exported detectors on small machines: OpenVINO and eight bits against ONNX Runtime.

Needs OpenVINO beside the package: ``pip install openvino``.
"""

import argparse
import json
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from _common import METRICS, Results, as_arrays, data_arguments, figures_of, load_split, made
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from skanomaly import OnnxDetector, export_onnx
from skanomaly.calibration import quantile_of_new, verdicts
from skanomaly.exceptions import ModelFileError
from skanomaly.utils import all_detectors

DETECTORS = dict(all_detectors())
CHOSEN = ("PatchCore", "STFPM", "SubspaceAD", "ConvAE", "PaDiM", "HierarchicalFeatureAE")
N_VALIDATION, N_CALIBRATION = 40, 32
# Whether convolutions that mix few numbers, the first and the grouped ones, are spared.
BITS = {"eight bits, all": False, "eight bits, most": True}
PRECISIONS = {
    "OpenVINO as it is": {},
    "OpenVINO, f32": {"INFERENCE_PRECISION_HINT": "f32"},
    "OpenVINO, ACCURACY": {"EXECUTION_MODE_HINT": "ACCURACY"},
}
BASE = "ONNX Runtime"
NOTES = f"""MVTec AD's *bottle*, 256x256; detectors at their defaults but for at most
{{max_epochs}} epochs and a coreset of 1 %, with thresholds from {N_VALIDATION} training images that
were kept apart, for 5 % false alarms. Files are of `export_onnx(..., regions=False)`. "eight bits"
are of `onnxruntime.quantization.quantize_static`, calibrated on {N_CALIBRATION} training images:
weights by channel, activations from the least to the largest; "most" leaves out the network's first
convolution and those of single channels. "scores" and "maps" are the largest
differences from ONNX Runtime's in single precision over all test images, relative to the largest of
each. "flagged" are normal and defective test images below the file's threshold, and "anew" below
that which the engine's own scores of the {N_VALIDATION} images give. "one image" is the median of
single images, the engines taking turns, on as many threads as each takes by itself; other work ran
on the machine, so that times compare engines and no more.

Data: a development category, on whose test images defaults were chosen."""
HEADER = [
    *("detector", "engine", "scores", "maps", *METRICS),
    *("flagged", "anew", "file", "one image"),
]


class Images(CalibrationDataReader):
    """One image after the other, for what finds the range of each number."""

    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        """The next one, or None."""
        image = next(self.images, None)
        return None if image is None else {"images": image[None]}


def quantized(path, images, spares_few):
    """A file beside another, whose convolutions work with eight bits, but for some."""
    out = path.with_name("quantized.onnx")
    convolutions = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    few = [convolutions[0].name, *(node.name for node in convolutions if groups(node) > 1)]
    quantize_static(
        path,
        out,
        Images(images),
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=few if spares_few else None,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(out)
    kept = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, out)
    return out


def groups(convolution):
    return next((a.i for a in convolution.attribute if a.name == "group"), 1)


def engines(path, images):
    """What runs the file: functions from images (n, H, W, C) to maps and scores, and sizes."""
    import openvino

    def served(file):
        detector = OnnxDetector(file)

        def run(X):
            found = detector.detect(X)
            return found.maps, found.scores

        return run, file.stat().st_size / 2**20

    def by_openvino(settings):
        model = openvino.Core().compile_model(path, "CPU", settings)

        def run(X):
            parts = [model({"images": x[None]}) for x in X]
            return (np.concatenate([part[name] for part in parts]) for name in ("maps", "scores"))

        return run, path.stat().st_size / 2**20

    found = {BASE: served(path)}
    for name, settings in PRECISIONS.items():
        found[name] = attempted(by_openvino, settings)
    for name, spares_few in BITS.items():
        found[name] = attempted(lambda f=spares_few: served(quantized(path, images, f)))
    return found


def attempted(make, *arguments):
    """An engine, or what it says where it does not take the file."""
    try:
        return make(*arguments)
    except (RuntimeError, ModelFileError, ValueError) as error:
        return str(error).strip().splitlines()[-1]


def measured(detector, split, X, X_test, path):
    export_onnx(detector, path, X[:2], regions=False)
    found = engines(path, X[:N_CALIBRATION])
    rows = {name: {"refused": said} for name, said in found.items() if isinstance(said, str)}
    running = {name: of for name, of in found.items() if name not in rows}
    times = {name: [] for name in running}
    for i in range(23):
        for name, (run, _) in running.items():
            start = time.perf_counter()
            run(X_test[i : i + 1])
            times[name].append(1000 * (time.perf_counter() - start))
    target = split.test.target
    for name, (run, size) in running.items():
        maps, scores = map(np.asarray, run(X_test))
        _, validation = map(np.asarray, run(X[-N_VALIDATION:]))
        rows[name] = {"MiB": size, "ms": float(np.median(times[name][3:]))}
        if name == BASE:
            base = maps, scores
        for what, a, b in zip(("maps", "scores"), (maps, scores), base):
            rows[name][what] = float(np.abs(a - b).max() / np.abs(b).max())
        rows[name] |= figures_of(split.test, argparse.Namespace(maps=maps, scores=scores))
        for when, offset in (
            ("flagged", detector.offset_),
            ("anew", quantile_of_new(validation, 0.05)),
        ):
            labels = verdicts(scores, offset)
            rows[name][when] = [float(np.mean(labels[target == t] < 0)) for t in (1, -1)]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(CHOSEN))
    parser.add_argument("--max-epochs", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    split = load_split(arguments.data, "bottle")
    X, X_test = (np.stack(as_arrays(part.images)) for part in split)
    results = Results("edge")
    for name in arguments.detectors:
        if name in results:
            continue
        detector = made(
            DETECTORS[name], random_state=0, max_epochs=arguments.max_epochs, coreset=0.01
        )
        detector.fit(X[:-N_VALIDATION], X_val=X[-N_VALIDATION:])
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measured(detector, split, X, X_test, Path(folder) / "model.onnx")
        print(name, json.dumps(results.rows[name]), flush=True)
    write(results, arguments.max_epochs)


def write(results, max_epochs):
    lines = []
    for detector, rows in results.rows.items():
        for engine in (name for name in (BASE, *PRECISIONS, *BITS) if name in rows):
            row = rows[engine]
            if "refused" in row:
                lines.append([detector, engine, f"refused: {row['refused']}", *[""] * 8])
                continue
            lines.append(
                [
                    detector,
                    engine,
                    f"{row['scores']:.0e}" if engine != BASE else "",
                    f"{row['maps']:.0e}" if engine != BASE else "",
                    *(f"{row[metric]:.3f}" for metric in METRICS),
                    *(" / ".join(f"{share:.0%}" for share in row[k]) for k in ("flagged", "anew")),
                    f"{row['MiB']:.1f} MiB",
                    f"{row['ms']:.1f} ms",
                ]
            )
    results.write_table(
        "Small machines",
        "python benchmarks/edge.py",
        NOTES.format(max_epochs=max_epochs) + f"\n\nOpenVINO {version('openvino')}.",
        HEADER,
        lines,
    )


if __name__ == "__main__":
    main()

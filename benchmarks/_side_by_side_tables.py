"""Tables of the side-by-side benchmark, and which of the figures that were asked for are met."""

import numpy as np
from _common import METRICS, grouped

TIMES = {
    "fit": ("fit_s", 1, "{:.1f} s"),
    "again": ("again_s", 1, "{:.1f} s"),
    "batches": ("batch_s", 1000, "{:.0f} ms"),
    "one by one": ("single_s", 1000, "{:.0f} ms"),
}
SIZES = {
    "fit memory": ("above_MiB", "{:,.0f} MiB"),
    "peak": ("peak_MiB", "{:,.0f} MiB"),
    "file": ("file_MiB", "{:.1f} MiB"),
}
CLOCK, CORES = 0, 1
# This package's way, and the peer's that it is compared with, which gets images as it does.
IN_MEMORY = "skanomaly arrays", "anomalib model"
FROM_FILES = "skanomaly files", "anomalib engine"
LIBRARIES = "skanomaly", "anomalib"
DETECTORS = "PaDiM", "PatchCore", "FastFlow", "STFPM", "ReverseDistillation"
TRAINED = DETECTORS[2:]
# Detector, figure, ways, and the share of the peer's that is asked for at most.
ASKED = (
    ("PaDiM", "fit", IN_MEMORY, 1 / 2),
    ("PaDiM", "again", IN_MEMORY, 1 / 2),
    ("PaDiM", "fit", FROM_FILES, 1 / 3),
    ("PaDiM", "again", FROM_FILES, 1 / 3),
    ("PaDiM", "batches", IN_MEMORY, 1 / 3),
    ("PaDiM", "batches", FROM_FILES, 1 / 3),
    ("PaDiM", "fit memory", IN_MEMORY, 1 / 2),
    ("PaDiM", "fit memory", FROM_FILES, 1 / 2),
    ("PatchCore", "batches", IN_MEMORY, 1 / 2),
    *((name, "fit", IN_MEMORY, 1.0) for name in TRAINED),
    *((name, "batches", IN_MEMORY, 2 / 3) for name in TRAINED),
    *((name, "one by one", IN_MEMORY, 1 / 2) for name in DETECTORS),
)
SELECTION_SHARE = 1 / 100
ACCURACY_LOSS = 0.002
WIDE = 0.1


def tables(rows):
    """Header and lines of each table, by heading."""
    found = values_by_way(rows)
    return {
        "Time of cores, memory and files": (
            ["category", "detector", "way", "epochs", "rounds", *TIMES, *SIZES],
            [[*key, *cost_cells(values)] for key, values in found.items()],
        ),
        "Time by the clock": (
            ["category", "detector", "way", *TIMES],
            [[*key, *time_cells(values, CLOCK)] for key, values in found.items()],
        ),
        "Accuracy": (
            ["category", "detector", "way", *METRICS],
            [
                [*key, *(f"{values[m][0]:.4f}" for m in METRICS)]
                for key, values in found.items()
                if values[METRICS[0]]
            ],
        ),
        "What was asked for": (
            ["category", "detector", "figure", "compared", "asked", "measured", "met"],
            [*cost_lines(found), *accuracy_lines(found), *selection_lines(rows)],
        ),
        "Choice of PatchCore's memory": (
            ["category", "patches", "share", "skanomaly", "anomalib"],
            [
                [category, f"{n:,}", share, f"{own:.1f} s", f"{peer:,.0f} s"]
                for category, n, share, own, peer in selections(rows)
            ],
        ),
        "Libraries": (["what", "skanomaly", "anomalib"], library_lines(rows)),
        "The floor": (["what", "value"], floor_lines(rows)),
    }


def values_by_way(rows):
    """What was measured in all rounds, by category, detector and way, then by figure."""
    of_rounds = {key: row for key, row in rows.items() if ", round " in key}
    found = {}
    for key, of_way in grouped(of_rounds, 3):
        if "imports" in rows:
            imports = np.median(rows["imports"][key[2].split()[0]]["import_MiB"])
            of_way = [row | {"above_MiB": row["fit_MiB"] - imports} for row in of_way]
        names = {name: field for name, (field, *_) in (TIMES | SIZES).items()}
        names |= {name: name for name in (*METRICS, "epochs")}
        found[key] = {
            name: [row[field] for row in of_way if field in row] for name, field in names.items()
        }
    return found


def cost_cells(values):
    """Epochs, rounds and each figure's median, with its range where that is wide."""
    sizes = [cell_of(values[name], form) for name, (_, form) in SIZES.items()]
    return [values["epochs"][0], len(values["epochs"]), *time_cells(values, CORES), *sizes]


def time_cells(values, of):
    """Medians of the times of the clock or of cores."""
    return [
        cell_of([unit * seconds[of] for seconds in values[name]], form)
        for name, (_, unit, form) in TIMES.items()
    ]


def cell_of(values, form):
    if not values:
        return ""
    cell = form.format(np.median(values))
    if np.ptp(values) > WIDE * np.median(values):
        low, high = (form.format(end(values)).split()[0] for end in (min, max))
        cell += f" ({low} to {high})"
    return cell


def cost_lines(found):
    """Medians' ratios beside those that were asked for."""
    lines = []
    for category in dict.fromkeys(key[0] for key in found):
        for detector, figure, ways, asked in ASKED:
            own, peer = (found.get((category, detector, way), {}).get(figure) for way in ways)
            if own and peer:
                ratio = np.median(costs(own)) / np.median(costs(peer))
                lines.append(line_of(category, detector, figure, ways, asked, ratio))
    return lines


def costs(values):
    """What counts of each: of times, that of cores."""
    return [value[CORES] if isinstance(value, list) else value for value in values]


def line_of(category, detector, figure, ways, asked, ratio):
    compared = " / ".join(ways)
    return [
        category,
        detector,
        figure,
        compared,
        f"{asked:.3g}",
        f"{ratio:.3g}",
        met(ratio <= asked),
    ]


def accuracy_lines(found):
    """How far each metric of this package's is from the peer's."""
    lines = []
    for category, detector in dict.fromkeys(key[:2] for key in found):
        own, peer = (found.get((category, detector, way)) for way in IN_MEMORY)
        if detector != "PaDiM" or not (own and peer):
            continue
        for metric in METRICS:
            gain = own[metric][0] - peer[metric][0]
            asked, compared = f"at least {-ACCURACY_LOSS}", " - ".join(IN_MEMORY)
            is_met = met(gain >= -ACCURACY_LOSS)
            lines.append([category, detector, metric, compared, asked, f"{gain:+.4f}", is_met])
    return lines


def met(is_met):
    return "yes" if is_met else "**no**"


def selections(rows):
    """Category, patches, share, and seconds of both libraries; the peer's steps are all alike."""
    for key, row in rows.items():
        if key.startswith("selection, "):
            for share, own in row["skanomaly"]["seconds"].items():
                n_steps = int(row["n"] * float(share)) - 1
                peer = row["anomalib"]
                peer_s = peer["prepare_s"][CORES] + n_steps * peer["step_s"][CORES]
                yield key.split(", ")[1], row["n"], share, own[CORES], peer_s


def selection_lines(rows):
    """Ratios of the times that the choice takes."""
    lines = []
    for category, _, share, own, peer in selections(rows):
        figure = f"selection of {float(share):.0%}"
        lines.append(line_of(category, "PatchCore", figure, LIBRARIES, SELECTION_SHARE, own / peer))
    return lines


def library_lines(rows):
    """Imports and installed sizes."""
    lines = []
    for name, field, form in (
        ("import", "import_s", "{:.1f} s"),
        ("memory of the imports", "import_MiB", "{:,.0f} MiB"),
    ):
        if "imports" in rows:
            medians = (np.median(costs(rows["imports"][library][field])) for library in LIBRARIES)
            lines.append([name, *map(form.format, medians)])
    if "installed" in rows:
        sizes = [rows["installed"][library]["MiB"] for library in LIBRARIES]
        lines += [
            ["packages", *map(len, sizes)],
            ["installed", *(f"{sum(of.values()):,.0f} MiB" for of in sizes)],
            ["of it not PyTorch and CUDA", *(f"{without_torch(of):,.0f} MiB" for of in sizes)],
            ["version", *(rows["installed"][name]["versions"][name] for name in LIBRARIES)],
            ["PyTorch", *(rows["installed"][name]["versions"]["torch"] for name in LIBRARIES)],
        ]
    if "features" in rows:
        lines.append(["features differ by", f"{rows['features']['difference']:.1e}", ""])
    return lines


def without_torch(sizes):
    """MiB of what is neither PyTorch nor comes with it for GPUs."""
    of_torch = ("torch", "triton", "nvidia", "cuda")
    return sum(size for name, size in sizes.items() if not name.startswith(of_torch))


def floor_lines(rows):
    """The encoder's operations over the rate of matrix products, beside its forward passes."""
    if "floor" not in rows:
        return []
    floor = rows["floor"]
    rate = floor["GFLOP_product"] / floor["product_s"][CORES]
    return [
        ["operations of an image's forward pass", f"{floor['GFLOP']:.2f} GFLOP"],
        ["rate of a float32 matrix product", f"{rate:.0f} GFLOP/s"],
        ["the one over the other", f"{1000 * floor['GFLOP'] / rate:.1f} ms"],
        *(
            [f"forward pass, {engine}, {size}", f"{1000 * floor[field][CORES]:.1f} ms"]
            for field, engine, size in (
                ("onnx_batch_s", "ONNX Runtime", "an image of a batch"),
                ("onnx_single_s", "ONNX Runtime", "one image"),
                ("torch_batch_s", "PyTorch", "an image of a batch"),
                ("torch_single_s", "PyTorch", "one image"),
            )
        ),
    ]

"""Figures in the guides: what stands between marked comments in Markdown, from benchmarks/results.

A place begins with ``<!-- python benchmarks/guide_tables.py: WHAT NAMES -->``, with one of `WHAT`
and the detectors that it is of, and ends with ``<!-- end -->``.
"""

import argparse
import json
import os
import re
from pathlib import Path

import numpy as np
from _common import DEFAULT_BACKBONE, DEVELOPMENT, NO_BACKBONE, PAPERS
from accuracy import LABELS

from skanomaly.utils import all_detectors

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COMMAND = "python benchmarks/guide_tables.py"
MARKED = re.compile(rf"(<!-- {re.escape(COMMAND)}: (.+?) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
STRENGTH = re.compile(r"^\*\*Good for\*\* (.+?)\.\n\n", re.MULTILINE | re.DOTALL)
WEAKNESS = re.compile(r"^## When not to use it\n\n\*\*(.+?)\.\*\*", re.MULTILINE | re.DOTALL)
KINDS = {
    "round part": ("bottle",),
    "grid": ("grid",),
    "leather": ("leather_tile",),
    "magnetic tile": ("magnetic_tile",),
    "paper": PAPERS,
}
ENSEMBLE = "make_ensemble()"
CLASSES = dict(all_detectors())
NAMES = (ENSEMBLE, *CLASSES)
NOT_MEASURED = "not measured"
EXTRA = {"PatchAE": ["untouched features"]}  # of which what is said to be a variant
AT_DEFAULTS = "default"
FIGURES = ("image AUROC", "AUPRO")
FLOOR = {"AUPRO": -1.0}  # of what was not measured on all categories, in an order
ALL_FIGURES = ("image AUROC", "pixel AUROC", "AUPRO", "AUPRC")


class Accuracy:
    """Means over seeds, by detector, network, setting and category."""

    def __init__(self, rows):
        seeds = {}
        for key, row in rows.items():
            name, category, backbone, *setting, _ = key.split(", ")
            seeds.setdefault((name, category, backbone, ", ".join(setting)), []).append(row)
        self.n_seeds = {group: len(found) for group, found in seeds.items()}
        self.means = {group: _means(found) for group, found in seeds.items()}

    def of(self, name, backbone, setting, categories):
        """Mean figures over categories, or None if one was not measured."""
        keys = [(name, category, backbone, setting) for category in categories]
        if not all(key in self.means for key in keys):
            return None
        return _means([self.means[key] for key in keys])

    def at_defaults(self, name, categories):
        """The same of a detector with its defaults, by its class's name."""
        label, found = LABELS.get(name, name), None
        for backbone in (DEFAULT_BACKBONE, NO_BACKBONE):
            found = found or self.of(label, backbone, AT_DEFAULTS, categories)
        return found

    def seeds_of(self, name):
        """How many seeds a detector with its defaults was measured with, at least and at most."""
        label = LABELS.get(name, name)
        ours = (DEFAULT_BACKBONE, NO_BACKBONE)
        counts = [
            n
            for (found, _, backbone, setting), n in self.n_seeds.items()
            if found == label and backbone in ours and setting == AT_DEFAULTS
        ]
        return sorted({min(counts), max(counts)}) if counts else []

    def variants(self, name):
        """(name, network, setting) of all that was measured with others than the defaults."""
        label = LABELS.get(name, name)
        return sorted(
            {
                (found, backbone, setting)
                for found, _, backbone, setting in self.means
                if (found == label and (backbone, setting) != self._default(label))
                or found.startswith((f"{label} ", f"{label}("))
                or found in EXTRA.get(name, ())
            }
        )

    def _default(self, label):
        known = {backbone for found, _, backbone, _ in self.means if found == label}
        return (DEFAULT_BACKBONE if DEFAULT_BACKBONE in known else NO_BACKBONE), AT_DEFAULTS


def _means(rows):
    return {
        name: float(np.mean([row[name] for row in rows]))
        for name in ALL_FIGURES
        if all(name in row for row in rows)
    }


def accuracy(page, name):
    """A detector, with other settings too, beside the best of all and the ensemble."""
    rows, label = _accuracy(), LABELS.get(name, name)
    lines = [[f"`{name}`{_seeds(rows, name)}", *_by_kind(rows, name)]]
    for found, backbone, setting in rows.variants(name):
        words = [
            found.removeprefix(label).strip(" ()"),
            backbone if backbone not in (DEFAULT_BACKBONE, NO_BACKBONE) else "",
            setting if setting != AT_DEFAULTS else "",
        ]
        cells = [_cell(rows.of(found, backbone, setting, c)) for c in KINDS.values()]
        if any(cell != NOT_MEASURED for cell in cells):
            lines.append([", ".join(filter(None, words)), *cells])
    best = [_best(rows, categories) for categories in KINDS.values()]
    lines.append(["highest AUPRO of all", *(f"{_cell(figures)} `{who}`" for who, figures in best)])
    lines.append([f"`{ENSEMBLE}`", *_by_kind(rows, ENSEMBLE)])
    return _table(["image AUROC / AUPRO", *KINDS], lines) + _source(page)


def costs(page, *names):
    """What detectors cost, with the network that is the default."""
    found = json.loads((RESULTS / "costs.json").read_text())
    lines = [[_link(page, name), *_costs(found["rows"], name)] for name in names or NAMES]
    head = ["detector", "fit", "an image", "one by one", "fit memory", "file"]
    note = (
        "Seconds of one CPU core, and memory, for 50 training images of 256x256 "
        f"({found['machine']['cpu']}, one thread. {_relative(page, 'costs')})\n"
    )
    return _table(head, lines) + "\n" + note


def choosing(page):
    """All detectors by kind of part, and what each is bad at."""
    rows = _accuracy()

    def mean(name):
        return rows.at_defaults(name, DEVELOPMENT)

    order = sorted(NAMES, key=lambda name: -(mean(name) or FLOOR)["AUPRO"])
    lines = [[_link(page, name), *_by_kind(rows, name), _cell(mean(name))] for name in order]
    figures = _table(["image AUROC / AUPRO", *KINDS, "mean of six"], lines) + _source(page)
    bad_at = _table(["detector", "not for"], [[_link(page, n), weakness(n)] for n in order])
    return f"{figures}\n{bad_at}"


def overview(page):
    """A row a detector: accuracy over the development categories, costs, what it is good for."""
    rows = _accuracy()
    found = json.loads((RESULTS / "costs.json").read_text())["rows"]

    def line(name):
        mean = rows.at_defaults(name, DEVELOPMENT)
        figures = [_figure(mean, f) for f in FIGURES] if mean else [NOT_MEASURED] * len(FIGURES)
        fit_s, batch_ms, _, fit_MiB, file_MiB = _costs(found, name)
        costs = [fit_s, batch_ms, fit_MiB, file_MiB]
        return [_link(page, name), *figures, *costs, strength(name)]

    order = sorted(NAMES, key=lambda name: -(rows.at_defaults(name, DEVELOPMENT) or FLOOR)["AUPRO"])
    head = ["detector", *FIGURES, "fit", "an image", "fit memory", "file", "good for"]
    return _table(head, [line(name) for name in order]) + _source(page)


def strength(name):
    """What a detector is good for, as its guide says in short."""
    return _said(name, STRENGTH, 'a sentence that begins with "**Good for**"')


def weakness(name):
    """What a detector is not for, as its guide says in short."""
    return _said(name, WEAKNESS, 'a heading "## When not to use it" with a sentence in bold below')


def _said(name, pattern, what):
    path = guide_of(name)
    found = pattern.search(path.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError(f"{path} lacks {what}")
    return " ".join(found[1].split())


def guide_of(name):
    """The page that tells of a detector."""
    if name == ENSEMBLE:
        return ROOT / "docs" / "one-pass-detectors.md"
    return ROOT / "docs" / "methods" / f"{CLASSES[name].__module__.rpartition('.')[2]}.md"


WHAT = {make.__name__: make for make in (accuracy, costs, choosing, overview)}


def written(text, page):
    """A page with its figures as they are to be.

    Parameters
    ----------
    text : str
    page : path
        Where it lies, to which links are relative.

    Returns
    -------
    str
    """

    def block(match):
        what, *names = match[2].split()
        if what not in WHAT or not set(names) <= set(NAMES):
            raise ValueError(
                f"{page} asks for {match[2]!r}; known are {', '.join(WHAT)}, of {', '.join(NAMES)}"
            )
        return match[1] + WHAT[what](page, *names) + match[4]

    return MARKED.sub(block, text)


def pages():
    """What may hold figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _accuracy():
    return Accuracy(json.loads((RESULTS / "accuracy.json").read_text())["rows"])


def _by_kind(rows, name):
    return [_cell(rows.at_defaults(name, categories)) for categories in KINDS.values()]


def _best(rows, categories):
    known = {name: rows.at_defaults(name, categories) for name in NAMES}
    known = {name: figures for name, figures in known.items() if figures}
    best = max(known, key=lambda name: known[name]["AUPRO"])
    return best, known[best]


def _seeds(rows, name):
    counts = _count(rows, name)
    return f", {counts} {'seed' if counts == '1' else 'seeds'}" if counts else ""


def _count(rows, name):
    return " to ".join(map(str, rows.seeds_of(name)))


def _cell(figures):
    if figures is None:
        return NOT_MEASURED
    return " / ".join(_figure(figures, name) for name in FIGURES)


def _figure(figures, name):
    return f"{figures[name]:.3f}".removeprefix("0")


def _costs(rows, name):
    found = [rows[key] for b in (DEFAULT_BACKBONE, NO_BACKBONE) if (key := f"{name}, {b}") in rows]
    if not found:
        return [NOT_MEASURED] * 5
    row = found[0]
    return [
        f"{row['fit_s']:.3g} s",
        f"{np.median(row['score_ms']):.0f} ms",
        f"{np.median(row['single_ms']):.0f} ms",
        f"{row['fit_MiB']:.0f} MiB",
        f"{row['file_MiB']:.3g} MiB",
    ]


def _link(page, name):
    target = guide_of(name)
    if target == Path(page):
        return f"`{name}`"
    return f"[`{name}`]({Path(os.path.relpath(target, Path(page).parent)).as_posix()})"


def _relative(page, name):
    path = os.path.relpath(RESULTS / f"{name}.md", Path(page).parent)
    return f"[All rows]({Path(path).as_posix()})"


def _source(page):
    return f"\n({_relative(page, 'accuracy')})\n"


def _table(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    for page in pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(written(text, page), encoding="utf-8")


if __name__ == "__main__":
    main()

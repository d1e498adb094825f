"""Where the time of a fit and of scoring goes, each detector, and scoring over its networks alone.

One process, in which everything was run once before.
"""

import argparse
import os
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import wraps
from unittest import mock

import numpy as np
import torch
from _common import Results, as_arrays, data_arguments, fit, load_split, made

from skanomaly import base, make_ensemble
from skanomaly.features import FeaturePyramid
from skanomaly.images import ImageDataset
from skanomaly.training import AnomalyNet
from skanomaly.utils import all_detectors

DETECTORS = {**dict(all_detectors()), "make_ensemble()": make_ensemble}
BATCHES, SOURCES = (1, 32), ("arrays", "PNG files")
KINDS = [f"batch {n}, {source}" for n in BATCHES for source in SOURCES]
N_ONE_BY_ONE = 8
N_IMAGES, N_VALIDATION, N_TEST = 12, 4, max(BATCHES)
SECTIONS = "reading", "encoder", "own network", "training", "method", "maps", "rest"
# Whose own parts are not told apart.
WHOLE = "encoder", "own network", "training"
# Seconds that the rounds of one comparison may take, of which there are two at least.
MAX_S = 2.0
NOTES = f"""MVTec AD's *bottle*, PNG files of 256x256: {N_IMAGES} to learn from, {N_VALIDATION} for
the threshold, {N_TEST} to score; one epoch of what is trained. Milliseconds of a fit, and of an
image by `score_samples`. "reading" is waiting for images, which threads read meanwhile, and
stacking them; "encoder" the pretrained network; "own network" the forward passes of what was
fitted; "method" the other arithmetic of its hooks; "maps" units, resizing, smoothing and scores;
"rest" all else. Each without what lies within it and is another's.

Over the networks: `score_samples` over the same calls of the same networks on the same tensors with
nothing around them, both in turn, medians. At batch 1 each image is a call of its own. Where a
method computes with its network's layers one by one, or has none, the ratio says little, and
nothing stands where no network is called. "load" is how many processes wanted a core in the minute
before: other work lengthens all times."""


class Sections:
    """Seconds by section, each without those of others within it."""

    def __init__(self):
        self.seconds, self._open = Counter(), []

    def enter(self, name):
        self._open.append([name, time.perf_counter(), 0.0])

    def leave(self):
        name, start, within = self._open.pop()
        taken = time.perf_counter() - start
        self.seconds[name] += taken - within
        if self._open:
            self._open[-1][2] += taken

    def within_a_whole(self):
        return bool(self._open) and self._open[-1][0] in WHOLE

    @contextmanager
    def __call__(self, name):
        self.enter(self._open[-1][0] if self.within_a_whole() else name)
        try:
            yield
        finally:
            self.leave()

    def of_function(self, name, function):
        @wraps(function)
        def timed(*args, **kwargs):
            with self(name):
                return function(*args, **kwargs)

        return timed

    def of_generator(self, name, function):
        @wraps(function)
        def timed(*args, **kwargs):
            iterator = function(*args, **kwargs)
            while True:
                with self(name):
                    value = next(iterator, iterator)
                if value is iterator:
                    return
                yield value

        return timed


@contextmanager
def outermost_networks(before, after):
    """Have functions called around each call of a network that is in no other's."""
    running = []

    def enter(module, inputs):
        if not is_network(module):
            return
        if not running:
            before(module, inputs)
        running.append(module)

    def leave(module, *_):
        if running and running[-1] is module:
            running.pop()
            if not running:
                after()

    hooks = torch.nn.modules.module
    with ExitStack() as stack:
        for register, hook in (
            (hooks.register_module_forward_pre_hook, enter),
            (hooks.register_module_forward_hook, leave),
        ):
            stack.callback(register(hook).remove)
        yield


def is_network(module):
    return isinstance(module, FeaturePyramid) or next(module.parameters(), None) is not None


def milliseconds(call):
    """Of one call, by section."""
    sections = Sections()
    within_networks = []

    def enter(module, _):
        within_networks.append(not sections.within_a_whole())
        if within_networks[-1]:
            sections.enter("encoder" if isinstance(module, FeaturePyramid) else "own network")

    def leave():
        if within_networks.pop():
            sections.leave()

    detector = base.BaseImageDetector
    timed = [
        (ImageDataset, "batches", "reading", sections.of_generator),
        (ImageDataset, "__getitem__", "reading", sections.of_function),
        (AnomalyNet, "fit_on", "training", sections.of_function),
        (detector, "_batches_through", "method", sections.of_generator),
        (detector, "_learnt_from", "method", sections.of_function),
        (detector, "_in_units", "maps", sections.of_function),
        (base, "assemble_maps_by_size", "maps", sections.of_generator),
        (base, "reduce_maps", "maps", sections.of_function),
    ]
    with ExitStack() as stack:
        for owner, name, section, wrapped in timed:
            function = wrapped(section, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function))
        stack.enter_context(outermost_networks(enter, leave))
        with sections("rest"):
            call()
    return {name: 1000 * sections.seconds[name] for name in SECTIONS}


def network_calls(call):
    """The outermost calls of networks that a call makes: (module, inputs)."""
    found = []

    def note(module, inputs):
        found.append((module, inputs))

    with outermost_networks(note, lambda: None):
        call()
    return found


def replayed(calls):
    with torch.inference_mode():
        for module, inputs in calls:
            module(*inputs)


def compared(call, other):
    """Median seconds of two calls that are made in turn."""
    times, start = [], time.perf_counter()
    while len(times) < 2 or (time.perf_counter() - start < MAX_S and len(times) < 15):
        times.append([seconds(call), seconds(other)])
    return np.median(times, axis=0)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def profile(make, train, test):
    """A row of a detector: sections of its fit and of scoring, and ratios to its networks."""
    detector = made(make, max_epochs=1).set_params(random_state=0)
    X, X_val = train.images[:N_IMAGES], train.images[N_IMAGES : N_IMAGES + N_VALIDATION]
    fit(made(make, max_epochs=1).set_params(random_state=0), X[:4], X_val=X_val[:2])
    row = {"fit": milliseconds(lambda: fit(detector, X, X_val=X_val))}
    files = test.images[:N_TEST]
    X_test = np.stack(as_arrays(files))
    for batch_size in BATCHES:
        sizes = [n for n in detector.get_params() if n.rpartition("__")[2] == "batch_size"]
        detector.set_params(**dict.fromkeys(sizes, batch_size))
        for source, images in zip(SOURCES, (X_test, files)):
            few = images[: max(batch_size, N_ONE_BY_ONE)]
            row[f"batch {batch_size}, {source}"] = of_scoring(detector, few, batch_size)
    return row


def of_scoring(detector, images, batch_size):
    """Milliseconds an image: of sections, of scoring, and of its networks alone."""

    def score():
        for start in range(0, len(images), batch_size):
            detector.score_samples(images[start : start + batch_size])

    score()
    calls = network_calls(score)
    scoring, networks = compared(score, lambda: replayed(calls))
    found = milliseconds(score) | {
        "score_samples": 1000 * scoring,
        "networks": 1000 * networks if calls else 0.0,
    }
    return {name: ms / len(images) for name, ms in found.items()}


def lines_of(rows, what):
    return [
        [name, *(f"{row[what][section]:.3g}" for section in SECTIONS)]
        for name, row in sorted(rows.items())
    ]


def ratio(found):
    return f"{found['score_samples'] / found['networks']:.2f}" if found["networks"] else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--again", action="store_true", help="also what is measured already")
    arguments = parser.parse_args()
    train, test = load_split(arguments.data, "bottle")
    results = Results("profiles")
    for name in arguments.detectors:
        if name not in results or arguments.again:
            load = os.getloadavg()[0]
            results[name] = profile(DETECTORS[name], train, test) | {"load": load}
            print(name, *(f"{kind}: {ratio(results.rows[name][kind])}" for kind in KINDS))
    write_tables(results)


def write_tables(results):
    ratios = [
        [
            name,
            *(
                cell
                for kind in KINDS
                for cell in (f"{row[kind]['score_samples']:.3g}", ratio(row[kind]))
            ),
            f"{row['load']:.1f}",
        ]
        for name, row in sorted(results.rows.items())
    ]
    header = [cell for kind in KINDS for cell in (f"{kind}, ms", "over its networks")]
    tables = {
        "Scoring over its networks": (["detector", *header, "load"], ratios),
        "A fit": (["detector", *SECTIONS], lines_of(results.rows, "fit")),
        **{
            f"Scoring an image, {kind}": (["detector", *SECTIONS], lines_of(results.rows, kind))
            for kind in KINDS
        },
    }
    results.write_tables("Where time goes", "python benchmarks/profiles.py", NOTES, tables)


if __name__ == "__main__":
    main()

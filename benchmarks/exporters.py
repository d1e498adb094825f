"""Roads from a pretrained network in PyTorch to what runs it on a CPU: conversion and run time.

Each network in a fresh process, in which everything is imported before; what is compared is run
in turn.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from unittest import mock

import torch
from _common import Results, backbones, data_arguments
from speed import in_turn

from skanomaly.features import FeaturePyramid, _engine

SIZE, BATCHES = (256, 256), (1, 4)
ROADS = "PyTorch", "TorchScript exporter", "its successor", "torch.compile"
NOTES = """Images of 256x256, height and width fixed and the batch free. "conversion" is from the
network in memory to the first batch of four done, a session of ONNX Runtime or compiled code
included; PyTorch itself converts nothing. `torch.compile` needs a C++ compiler where it is used and
compiles anew for a batch of one. "apart" is the largest difference from PyTorch, over the largest
feature. Run times are medians of calls in turn. "load" is how many processes wanted a core in the
minute before."""


def measure(name, weights, rounds):
    network = FeaturePyramid(name, weights=weights, engine="torch").network
    x = torch.rand(4, network.n_channels, *SIZE, generator=torch.Generator().manual_seed(0))
    roads, found = {}, {}
    for road, make in (
        ("PyTorch", lambda: network),
        ("TorchScript exporter", lambda: session(network)),
        ("its successor", lambda: session(network, refused)),
        ("torch.compile", lambda: torch.compile(network)),
    ):
        start = time.perf_counter()
        try:
            roads[road] = make()
            with torch.no_grad():
                features = roads[road](x)
        except Exception as error:  # there may be no compiler, and one exporter is to go
            found[road] = {"failed": f"{type(error).__name__}: {error}"[:200]}
            roads.pop(road, None)
            continue
        found[road] = {
            "conversion_s": time.perf_counter() - start,
            "apart": apart(features, network(x)),
        }
    for n in BATCHES:
        calls = {road: partial(run, x[:n]) for road, run in roads.items()}
        with torch.no_grad():
            for road, s in in_turn(calls, rounds).items():
                found[road][f"batch_{n}_ms"] = 1000 * s / n
    return found


def session(network, old=None):
    """What runs the network in ONNX Runtime, written by PyTorch's exporter or its successor."""
    export = torch.onnx.export

    def chosen(*args, dynamo, **options):
        return (export if dynamo else old)(*args, dynamo=dynamo, **options)

    with mock.patch.object(torch.onnx, "export", chosen if old else export):
        live = _engine._onnx_session(_engine.export_onnx(network, SIZE))
    return lambda x: [torch.from_numpy(f) for f in live.run(None, {"x": x.numpy()})]


def refused(*args, **options):
    raise NotImplementedError("as if it were gone")


def apart(features, expected):
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(features, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--networks", nargs="+", default=["tf_efficientnet_lite0", "resnet18"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--again", action="store_true", help="also what is measured already")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        import onnxscript  # noqa: F401  imported here, so that no conversion pays for it

        weights = backbones(arguments)[arguments.one].get("weights", "imagenet")
        print(json.dumps(measure(arguments.one, weights, arguments.rounds)))
        return
    results = Results("exporters")
    for name in arguments.networks:
        if name in results and not arguments.again:
            continue
        load = os.getloadavg()[0]
        command = [sys.executable, *sys.argv, "--one", name]
        printed = subprocess.check_output(command, text=True, env=os.environ)
        results[name] = json.loads(printed.splitlines()[-1]) | {"load": load}
    header = [
        "network",
        "road",
        "conversion",
        *(f"an image, batch {n}" for n in BATCHES),
        "apart",
        "load",
    ]
    lines = [
        [name, road, *cells(row[road]), f"{row['load']:.1f}"]
        for name, row in sorted(results.rows.items())
        for road in ROADS
    ]
    results.write_table(
        "Roads to a fast network", "python benchmarks/exporters.py", NOTES, header, lines
    )


def cells(found):
    if "failed" in found:
        return [found["failed"], *("" for _ in BATCHES), ""]
    times = [f"{found[f'batch_{n}_ms']:.1f} ms" for n in BATCHES]
    return [f"{found['conversion_s']:.2f} s", *times, f"{found['apart']:.1e}"]


if __name__ == "__main__":
    main()

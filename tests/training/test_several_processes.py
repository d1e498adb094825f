"""The recipe of the guide to several cards, by two processes on the CPU."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import skanomaly
from skanomaly import STFPM, ImageFiles
from skanomaly.datasets import make_texture_defects

pytest.importorskip("accelerate", reason="needs accelerate: pip install accelerate")
pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs" / "several-cards.md"
PARAMETERS = {"image_size": 64, "max_epochs": 6, "train_batch_size": 4, "mixed_precision": False}
FOUND = """
    found = {
        "scores": detector.score_samples(ImageFiles.from_folder("good_parts")).tolist(),
        "weights": [p.sum().item() for p in detector.net_.module_.parameters()],
        "offset": detector.offset_,
        "valid_loss": detector.net_.history[:, "valid_loss"],
        "steps": len(detector.net_.history[-1, "batches"]),
        "lr": detector.net_.optimizer_.param_groups[0]["lr"],
        "n_processes": accelerator.num_processes,
    }
    Path(f"found{accelerator.process_index}.json").write_text(json.dumps(found, default=float))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder, and what each of two processes has found."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "good_parts").mkdir()
    images = make_texture_defects("gravel", n_normal=40, image_size=64, random_state=0).images
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "good_parts" / f"{i:02}.png")
    (recipe,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    given = ", ".join(f"{name}={value}" for name, value in PARAMETERS.items())
    recipe = recipe.replace("train_batch_size=16", given)
    before, after = recipe.split("\n\nif __name__")
    script = folder / "train.py"
    imports = "import json\nfrom pathlib import Path\n"
    script.write_text(f"{imports}{before}{FOUND}\n\nif __name__{after}")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    everywhere = os.environ | {
        **{"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
        **{"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)},
        "PYTHONPATH": str(Path(skanomaly.__file__).parents[1]),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, script],
            cwd=folder,
            env=everywhere | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(300) for process in processes] == [0, 0]
    return folder, [json.loads((folder / f"found{i}.json").read_text()) for i in range(2)]


def test_both_end_with_the_same(found):
    _, (first, second) = found
    for of in (first, second):
        assert of["n_processes"] == 2
    assert first == second


def test_the_epoch_is_shared_and_the_loss_is_that_of_one_process(found):
    folder, (first, _) = found
    files = ImageFiles.from_folder(folder / "good_parts")
    # Of as many images a step as both together.
    alone = STFPM(**PARAMETERS | {"train_batch_size": 8}, random_state=0).fit(files)
    history = alone.net_.history
    assert first["steps"] == len(history[-1, "batches"])
    assert first["lr"] == pytest.approx(alone.net_.optimizer_.param_groups[0]["lr"])
    losses = history[:, "valid_loss"]
    assert losses[-1] < 0.9 * losses[0]
    np.testing.assert_allclose(first["valid_loss"], losses, rtol=0.1)


def test_what_is_saved_needs_no_accelerate(found):
    folder, (first, _) = found
    again = skanomaly.load(folder / "model.skanomaly")
    scores = again.score_samples(ImageFiles.from_folder(folder / "good_parts"))
    np.testing.assert_allclose(scores, first["scores"], rtol=1e-5)
    assert type(again.net_) is skanomaly.training.AnomalyNet

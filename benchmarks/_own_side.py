"""This package's side of the side-by-side benchmark, as a process of its own."""

import warnings
from pathlib import Path

import numpy as np
from _side import PARTS, main, measured, median_s, peak_MiB, seconds

ENGINES = "onnx", "torch"
MATRIX_SIDE = 2048


def kinds():
    """What does each kind of job; the package is imported here, as its users import it."""
    from skanomaly import PaDiM  # noqa: F401

    warnings.simplefilter("ignore")
    return {
        "detector": lambda job: measured(Side(job), job),
        "imports": imports,
        "floor": floor,
        "selection": selection,
        "features": features,
    }


class Side:
    """A detector of images in memory, or of files."""

    def __init__(self, job):
        self.job = job

    def load(self):
        """Open what is learnt from, what sets the threshold, and the test images."""
        from skanomaly import ImageFiles

        folder = Path(self.job["images"])
        of_files = self.job["way"] == "files"
        self.train, self.held_out, self.test = (
            ImageFiles.from_folder(folder / part) if of_files else np.load(folder / f"{part}.npy")
            for part in PARTS
        )

    def fit(self):
        """From nothing to a fitted detector."""
        import skanomaly

        make = getattr(skanomaly, self.job["detector"])
        self.detector = make(**self.job["parameters"], random_state=0)
        self.detector.fit(self.train, X_val=self.held_out)

    def save(self, folder):
        """The file that keeps it."""
        from skanomaly import save

        save(self.detector, folder / "model.skanomaly")
        return folder / "model.skanomaly"

    def score(self, indices, batch_size):
        """As of any side; a call for each batch if that is a single image."""
        detector, indices = self.detector.set_params(batch_size=batch_size), np.array(indices)
        calls = [[i] for i in indices] if batch_size == 1 else [indices]
        found = [detector.detect(self.test[chosen]) for chosen in calls]
        return (
            -np.concatenate([f.scores for f in found]),
            np.concatenate([f.maps for f in found]),
        )


def imports(job):
    """Memory of all that a fit imports."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import skorch  # noqa: F401
    import timm  # noqa: F401

    return {"import_MiB": peak_MiB()}


def floor(job):
    """What the encoder's forward pass alone takes, by count and by clock."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from skanomaly.features import FeaturePyramid

    encoders = {e: FeaturePyramid("resnet18", (1, 2, 3), job["weights"], engine=e) for e in ENGINES}
    one, batch = (torch.rand(n, 3, 256, 256) for n in (1, job["batch_size"]))
    with FlopCounterMode(display=False) as counter:
        encoders["torch"].network(one)
    a = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    row = {
        "GFLOP": counter.get_total_flops() / 1e9,
        "GFLOP_product": 2 * MATRIX_SIDE**3 / 1e9,
        "product_s": median_s(lambda: a @ a),
    }
    for name, encoder in encoders.items():
        of_batch = median_s(lambda e=encoder: e(batch))
        row[f"{name}_batch_s"] = [s / len(batch) for s in of_batch]
        row[f"{name}_single_s"] = median_s(lambda e=encoder: e(one))
    return row


def selection(job):
    """Seconds that the choice of a memory takes, for each share."""
    import torch

    from skanomaly.features import PatchBank

    rows = torch.from_numpy(np.load(job["features"]))
    times = {
        str(share): seconds(lambda s=share: PatchBank(s).fit([rows], 0)) for share in job["shares"]
    }
    return {"seconds": times}


def features(job):
    """Keep an image's features at three levels."""
    import torch

    from skanomaly.features import FeaturePyramid

    image = torch.from_numpy(np.load(Path(job["images"]) / "test.npy")[:1])
    pixels = image.permute(0, 3, 1, 2) / 255
    levels = FeaturePyramid("resnet18", (1, 2, 3), job["weights"])(pixels)
    np.savez(job["found"], *(f.numpy() for f in levels))
    return {}


if __name__ == "__main__":
    main(kinds)

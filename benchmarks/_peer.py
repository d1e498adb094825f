"""anomalib's side of the side-by-side benchmark: a process of an environment that has it.

It has no part of this package. Pretrained weights are those of a file: where anomalib would have
timm download some, they are loaded from there.
"""

import logging
import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from _side import PARTS, main, measured, peak_MiB, seconds

LAYERS = ["layer1", "layer2", "layer3"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def kinds():
    """What does each kind of job; anomalib is imported here, as its users import it."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import anomalib.data
    import anomalib.engine
    import anomalib.models  # noqa: F401

    return {
        "detector": detector,
        "imports": lambda job: {"import_MiB": peak_MiB()},
        "selection": selection,
        "features": features,
    }


def detector(job):
    with_local_weights(job["weights"])
    return measured((Bare if job["way"] == "bare model" else Engine)(job), job)


def with_local_weights(path):
    """Have timm build ResNet-18 with a file's weights where it is asked for pretrained ones."""
    import timm
    from safetensors.torch import load_file

    create = timm.create_model

    def create_model(name, *args, pretrained=False, **kwargs):
        model = create(name, *args, pretrained=False, **kwargs)
        if pretrained:
            own = model.state_dict()  # which may end at an earlier stage than the file's
            model.load_state_dict({k: v for k, v in load_file(path).items() if k in own})
        return model

    timm.create_model = create_model


def module_of(job):
    """The Lightning module, whose ``model`` is the bare one."""
    import torch
    from anomalib import models
    from anomalib.post_processing import PostProcessor

    torch.manual_seed(0)
    made = {
        "PaDiM": partial(models.Padim, layers=LAYERS, n_features=100),
        "PatchCore": partial(
            models.Patchcore, layers=LAYERS[1:], coreset_sampling_ratio=job["coreset"]
        ),
        "FastFlow": models.Fastflow,
        "STFPM": partial(models.Stfpm, layers=LAYERS),
        "ReverseDistillation": partial(models.ReverseDistillation, layers=LAYERS),
    }[job["detector"]](
        backbone="resnet18",
        # Maps as the model makes them: normalised ones end at 1.
        post_processor=PostProcessor(enable_normalization=False),
        evaluator=False,
        visualizer=False,
    )
    if job["detector"] == "PaDiM":
        made.model.idx = torch.tensor(job["channels"])
    return made


class Bare:
    """A model, and the loop that its Lightning module has run, on images in memory."""

    def __init__(self, job):
        self.job = job

    def load(self):
        """Read the images."""
        folder = Path(self.job["images"])
        self.train, self.held_out, self.test = (np.load(folder / f"{part}.npy") for part in PARTS)

    def fit(self):
        """From nothing to a fitted model."""
        import torch

        self.module = module_of(self.job)
        self.model = self.module.model
        size = self.job["train_batch_size"]
        if hasattr(self.module, "fit"):
            self.model.train()
            for start in range(0, len(self.train), size):
                self.model(pixels_of(self.train[start : start + size]))
            self.module.fit()
            self.score_all(self.held_out, self.job["batch_size"])
            return
        optimizer = self.module.configure_optimizers()
        for _ in range(self.job["max_epochs"]):
            self.model.train()
            for chosen in torch.randperm(len(self.train)).split(size):
                optimizer.zero_grad()
                self.module.loss(*self.model(pixels_of(self.train[chosen]))).backward()
                optimizer.step()
            self.score_all(self.held_out, self.job["batch_size"])

    def save(self, folder):
        """The file that keeps it."""
        import torch

        torch.save(self.model.state_dict(), folder / "model.pt")
        return folder / "model.pt"

    def score(self, indices, batch_size):
        """As of any side."""
        return joined(self.score_all(self.test[np.array(indices)], batch_size))

    def score_all(self, images, batch_size):
        """What the model makes of each batch."""
        import torch

        self.model.eval()
        with torch.no_grad():
            return [
                self.model(pixels_of(images[start : start + batch_size]))
                for start in range(0, len(images), batch_size)
            ]


class Engine:
    """A module in its engine, on files."""

    def __init__(self, job):
        self.job = job

    def load(self):
        """List the files."""
        from anomalib.data.datasets.image.folder import FolderDataset

        folder = Path(self.job["images"])
        self.train, self.held_out, self.test = (
            FolderDataset(name=part, normal_dir=folder / part) for part in PARTS
        )

    def fit(self):
        """From nothing to a fitted model."""
        from anomalib.engine import Engine as PeerEngine

        self.module = module_of(self.job)
        self.engine = PeerEngine(
            max_epochs=self.job["max_epochs"],
            accelerator="cpu",
            devices=1,
            default_root_dir=self.job["scratch"],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        self.engine.fit(
            self.module,
            train_dataloaders=self.loader(self.train, self.job["train_batch_size"], shuffle=True),
            val_dataloaders=self.loader(self.held_out, self.job["batch_size"]),
        )

    def loader(self, dataset, batch_size, **options):
        """What hands batches of files to the engine."""
        from torch.utils.data import DataLoader

        return DataLoader(
            dataset,
            batch_size,
            collate_fn=dataset.collate_fn,
            **options,
        )

    def save(self, folder):
        """The checkpoint that the engine has written."""
        return Path(self.engine.best_model_path)

    def score(self, indices, batch_size):
        """As of any side: one call for all, as each call sets the engine up."""
        loader = self.loader(self.test.subsample(list(indices)), batch_size)
        return joined(self.engine.predict(self.module, dataloaders=loader))


def pixels_of(images):
    """Images (n, H, W, 3) of uint8 as its modules' first step gives them to the model."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def joined(found):
    """Scores and maps of batches."""
    maps = np.concatenate([batch.anomaly_map.numpy() for batch in found])
    scores = np.concatenate([batch.pred_score.numpy() for batch in found])
    return scores.reshape(-1), maps.reshape(len(maps), *maps.shape[-2:])


def selection(job):
    """Seconds of preparing the choice of a memory, and of each step, which are all alike."""
    import torch
    from anomalib.models.components import KCenterGreedy

    rows = torch.from_numpy(np.load(job["features"]))

    def chosen(n):
        sampler = KCenterGreedy(rows, job["shares"][0])
        sampler.coreset_size = n
        return seconds(sampler.select_coreset_idxs)

    chosen(2)  # warms up
    before, after = chosen(1), chosen(job["steps"] + 1)
    steps = [(b - a) / job["steps"] for a, b in zip(before, after)]
    return {"prepare_s": before, "step_s": steps}


def features(job):
    """Keep an image's features at three levels."""
    from anomalib.models.components import TimmFeatureExtractor

    with_local_weights(job["weights"])
    extractor = TimmFeatureExtractor("resnet18", LAYERS, pre_trained=True)
    levels = extractor(pixels_of(np.load(Path(job["images"]) / "test.npy")[:1]))
    np.savez(job["found"], *(levels[layer].numpy() for layer in LAYERS))
    return {}


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    main(kinds)

"""Frozen pretrained feature pyramids: timm's networks, their weights, and what runs them."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import torch
from torch import nn

from .._process import is_exporting
from ..exceptions import InvalidImageError
from ._dataset import FeatureDataset, allocate
from ._engine import session_for
from ._networks import frozen_network, share

# ONNX Runtime never returns what its largest batch took, 20 MB an image of 256 x 256; from four
# such images on, a larger batch saves little time.
_PIXELS_AT_ONCE = 4 * 256 * 256


class FeaturePyramid(nn.Module):
    """Feature maps of several layers of a frozen, pretrained timm network.

    Parameters
    ----------
    name : str, default="tf_efficientnet_lite0"
        A convolutional (or hierarchical) network of timm, whose ``features_only``
        form gives maps of decreasing size, or a plain vision transformer (timm's
        ViT, DeiT, EVA, DINOv2 and DINOv3), whose maps all have the stride of its
        patches. A transformer takes images of any size: they are padded to whole
        patches by the pixels of their border, position embeddings are
        interpolated, and so are the maps if there is padding, which they leave
        out. Class and register tokens are left out too.
    layers : sequence of int, default=(1, 2, 3)
        Levels of the pyramid, timm's ``out_indices``. For a ResNet 0 is the stem
        and 1 to 4 are its stages; (1, 2, 3) has strides 4, 8, 16 in most networks.
        For a plain vision transformer they are its blocks, from 0. The last block's
        tokens are those after the network's final normalisation, where it has one;
        those of other blocks are as they leave their block.
    weights : "imagenet", path or None, default="imagenet"
        "imagenet" takes the weights of an installed package where there is one
        (``tf_efficientnet_lite0``), else those that timm has on its hub under this
        name, whatever they were trained on. A path names a ``.safetensors`` file or
        a PyTorch state dict in timm's key names. None leaves the network at its
        random initialisation.
    n_channels : int, default=3
        Channels of the images. For other than 3 the first convolution is adapted
        as timm does (summed for one, repeated and rescaled for more).
    engine : {"auto", "onnx", "torch"}, default="auto"
        What runs the network on a CPU. "auto" is ONNX Runtime, or PyTorch, with
        a warning, for a network that cannot be exported. Other devices always
        use PyTorch.
    memory : joblib.Memory, path or None, default=None
        Where features are kept between calls and processes, by image.

    Attributes
    ----------
    channels : tuple of int
        Channels of each level.
    strides : tuple of int
        Input pixels between neighbouring positions of each level; all equal for a
        plain vision transformer.

    Raises
    ------
    BackboneError
        If the network gives no pyramid, or its weights cannot be had or do not fit.
    """

    def __init__(
        self,
        name="tf_efficientnet_lite0",
        layers=(1, 2, 3),
        weights="imagenet",
        *,
        n_channels=3,
        engine="auto",
        memory=None,
    ):
        super().__init__()
        self.engine, self.memory = engine, memory
        self.network = share(frozen_network(name, tuple(layers), weights, n_channels))

    @classmethod
    def of_network(cls, network, engine="auto"):
        """A pyramid of a network that was built elsewhere.

        Parameters
        ----------
        network : FrozenNetwork
        engine : {"auto", "onnx", "torch"}, default="auto"

        Returns
        -------
        FeaturePyramid
        """
        pyramid = cls.__new__(cls)
        nn.Module.__init__(pyramid)
        pyramid.engine, pyramid.memory = engine, None
        pyramid.network = share(network)
        return pyramid

    @property
    def channels(self):
        """Channels of each level."""
        return self.network.channels

    @property
    def strides(self):
        """Input pixels between neighbouring positions of each level."""
        return self.network.strides

    def train(self, mode=True):
        """Do nothing: a network that is tuned keeps its batch statistics, too."""
        return super().train(False)

    def tune(self):
        """Let gradients reach the network's weights, until `freeze`; it is then nobody else's."""
        self.network = self.network.private()
        self.requires_grad_(True)

    def freeze(self):
        """Take the network as it is now for its final form."""
        if not self.network.is_shared:
            self.network.settle()
            self.network = share(self.network)

    def forward(self, x):
        """Features of a batch.

        Parameters
        ----------
        x : tensor, shape (n, n_channels, H, W), float32 in [0, 1]

        Returns
        -------
        tuple of tensor, each (n, channels[k], ceil(H / strides[k]), ceil(W / strides[k]))
            In channels-last memory, which what follows prefers on a CPU.
        """
        if not self.network.is_shared:  # it is being tuned
            features = self.network(x)
        else:
            features = self._compute(x) if self.memory is None else self._recall(x)
        return tuple(f.contiguous(memory_format=torch.channels_last) for f in features)

    def extract(self, images, batch_size=16, n_jobs=None):
        """Features of all images, computed once and kept.

        Parameters
        ----------
        images : ImageDataset
            Must share one size.
        batch_size : int, default=16
        n_jobs : int or None, default=None
            Threads that read images.

        Returns
        -------
        FeatureDataset
            On the CPU, in memory, or in an unlinked temporary file where the
            features exceed 4 GiB.

        Raises
        ------
        InvalidImageError
            If an image cannot be used, is smaller than the largest stride, or
            reaches the network in another size than the first.
        """
        self.require_size(images)
        levels, own_sizes = None, []
        for pixels, sizes in images.batches(batch_size, n_jobs):
            features = self(pixels.to(self.network.mean.device))
            if levels is None:
                shape, levels = pixels.shape, allocate(len(images), features)
            start, stop = len(own_sizes), len(own_sizes) + len(pixels)
            if pixels.shape[1:] != shape[1:]:
                raise InvalidImageError(
                    f"is {pixels.shape[2]} x {pixels.shape[3]} pixels, others are {shape[2]} x "
                    f"{shape[3]}; to train on several sizes set image_size",
                    index=int(images.indices[start]),
                )
            for level, feature in zip(levels, features, strict=True):
                level[start:stop] = feature.cpu()
            own_sizes += sizes
        network = self.network.digest
        return FeatureDataset(levels, own_sizes, lambda: [network, images.digest()])

    def require_size(self, images):
        """Have images smaller than the largest stride refused when they are read.

        Parameters
        ----------
        images : ImageDataset

        Raises
        ------
        InvalidImageError
            If they are resized to less.
        """
        images.min_size = max(self.strides)
        if images.image_size is not None and min(images.image_size) < images.min_size:
            raise InvalidImageError(
                f"image_size={images.image_size} is smaller than the stride of "
                f"{self.network.name}, {images.min_size} pixels; choose a larger one"
            )

    def _compute(self, x):
        session = None
        if x.device.type == "cpu" and self.engine != "torch" and not is_exporting():
            session = session_for(self.network, tuple(x.shape[2:]), self.engine)
        if session is None:
            with torch.no_grad():
                return self.network(x)
        n_at_once = max(1, _PIXELS_AT_ONCE // (x.shape[2] * x.shape[3]))
        parts = [session.run(None, {"x": part.numpy()}) for part in x.split(n_at_once)]
        if len(parts) == 1:
            return tuple(map(torch.from_numpy, parts[0]))
        return tuple(torch.from_numpy(np.concatenate(level)) for level in zip(*parts))

    def _recall(self, x):
        from sklearn.utils.validation import check_memory

        memory = os.fspath(self.memory) if isinstance(self.memory, os.PathLike) else self.memory
        remember = check_memory(memory).cache(_remember, ignore=["features"])
        keys = [f"{self.network.digest}-{_digest(image)}" for image in x.cpu().numpy()]
        missing = [i for i, key in enumerate(keys) if not remember.check_call_in_cache(key, None)]
        fresh = {}
        if missing:
            computed = self._compute(x[missing])
            fresh = {i: [f[j].cpu().numpy() for f in computed] for j, i in enumerate(missing)}
        try:
            kept = [remember(key, fresh.get(i)) for i, key in enumerate(keys)]
        except LookupError:  # an entry was damaged, or cleared since it was looked for
            return self._compute(x)
        return tuple(torch.from_numpy(np.stack(level)).to(x.device) for level in zip(*kept))

    def _apply(self, fn, recurse=True):
        """What moves a module: a shared network stays where it is, and another takes its place."""
        if not self.network.is_shared:
            return super()._apply(fn, recurse)
        moved = fn(self.network.mean)
        if moved.dtype != self.network.mean.dtype:
            self.network = self.network.private()
            return super()._apply(fn, recurse)
        if moved.device != self.network.mean.device:
            self.network = self.network.on(moved.device)
        return self

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.network.is_shared:
            self.network = share(self.network)


def _digest(image):
    digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()[:40]


def _remember(key, features):
    """What joblib keeps under a key: the features its caller just computed."""
    if features is None:
        raise LookupError(f"no features are kept under {key}")
    return features

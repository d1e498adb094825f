"""Frozen pretrained feature pyramids: timm's networks, their weights, and what runs them."""

from __future__ import annotations

import hashlib
import os
import warnings
from difflib import get_close_matches

import numpy as np
import torch
from torch import nn

from ..exceptions import BackboneError, InvalidImageError
from ._dataset import FeatureDataset, allocate
from ._engine import export_onnx, onnx_session
from ._weights import FROM_HUB, load_into, load_weights

# Every spatial size costs an export and a copy of the network; images of ever
# new sizes are better run in PyTorch.
MAX_SESSIONS = 8


class FeaturePyramid(nn.Module):
    """Feature maps of several layers of a frozen, pretrained timm network.

    Parameters
    ----------
    name : str, default="tf_efficientnet_lite0"
        A convolutional (or hierarchical) network of timm, whose ``features_only``
        form gives maps of decreasing size.
    layers : sequence of int, default=(1, 2, 3)
        Levels of the pyramid, timm's ``out_indices``. For a ResNet 0 is the stem
        and 1 to 4 are its stages; (1, 2, 3) has strides 4, 8, 16 in most networks.
    weights : "imagenet", path or None, default="imagenet"
        "imagenet" takes the weights of an installed package where there is one
        (``tf_efficientnet_lite0``), else timm's from the hub. A path names a
        ``.safetensors`` file or a PyTorch state dict in timm's key names. None
        leaves the network at its random initialisation.
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
        Input pixels between neighbouring positions of each level.

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
        self.name, self.layers, self.n_channels = name, tuple(layers), n_channels
        self.engine, self.memory = engine, memory
        state = load_weights(name, weights)
        self.network = _create(name, self.layers, n_channels, from_hub=state is FROM_HUB)
        info = self.network.feature_info
        self.channels = tuple(info.channels())
        self.strides = tuple(info.reduction())
        self.channels_first = getattr(self.network, "output_fmt", "NCHW") == "NCHW"
        if any(fine >= coarse for fine, coarse in zip(self.strides, self.strides[1:])):
            raise BackboneError(
                f"{name} gives maps of strides {self.strides}, which is no pyramid; plain vision "
                "transformers are not supported, choose a convolutional network such as resnet18"
            )
        if isinstance(state, dict):
            load_into(self.network, state, name, n_channels)
        mean, std = (
            _per_channel(self.network.pretrained_cfg[key], n_channels) for key in ("mean", "std")
        )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.requires_grad_(False)
        self.eval()
        self.fingerprint = self._fingerprint()
        self._sessions = {}

    def train(self, mode=True):
        """Do nothing: batch statistics stay frozen, as does all else unless `tune` was called."""
        return super().train(False)

    def tune(self):
        """Let gradients reach the network's weights, until `freeze`."""
        self.requires_grad_(True)
        self._sessions = {}

    def freeze(self):
        """Take the network as it is now for its final form."""
        self.requires_grad_(False)
        self.fingerprint = self._fingerprint()
        self._sessions = {}

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
        if self._is_tuned():
            features = self._run_network(x)
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
            features = self(pixels.to(self.mean.device))
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
        return FeatureDataset(levels, own_sizes)

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
                f"image_size={images.image_size} is smaller than the stride of {self.name}, "
                f"{images.min_size} pixels; choose a larger one"
            )

    def _is_tuned(self):
        return any(parameter.requires_grad for parameter in self.parameters())

    def _compute(self, x):
        session = self._session(x)
        if session is None:
            with torch.no_grad():
                return self._run_network(x)
        return tuple(torch.from_numpy(out) for out in session.run(None, {"x": x.numpy()}))

    def _run_network(self, x):
        features = self.network((x - self.mean) / self.std)
        if not self.channels_first:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return tuple(features)

    def _recall(self, x):
        from sklearn.utils.validation import check_memory

        memory = os.fspath(self.memory) if isinstance(self.memory, os.PathLike) else self.memory
        remember = check_memory(memory).cache(_remember, ignore=["features"])
        keys = [f"{self.fingerprint}-{_digest(image)}" for image in x.cpu().numpy()]
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

    def _fingerprint(self):
        digest = hashlib.sha256(f"{self.name} {self.layers}".encode())
        for key, tensor in self.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def _session(self, x):
        """ONNX Runtime's session for this size, or None where PyTorch is to run it."""
        if x.device.type != "cpu" or self.engine == "torch":
            return None
        size = tuple(x.shape[2:])
        if size not in self._sessions:
            if len(self._sessions) >= MAX_SESSIONS:
                return None
            self._sessions[size] = self._make_session(size)
        return self._sessions[size]

    def _make_session(self, size):
        try:
            return onnx_session(export_onnx(self, size))
        except Exception as error:  # exporters fail in many ways
            reason = f"{self.name} cannot be run in ONNX Runtime at {size[0]}x{size[1]} ({error})"
            if self.engine == "onnx":
                raise BackboneError(f'{reason}; use engine="torch"') from error
            warnings.warn(f"{reason}; PyTorch runs it instead, slower", stacklevel=2)
            self.engine = "torch"
            return None

    def __getstate__(self):
        return {**super().__getstate__(), "_sessions": {}}


def _create(name, layers, n_channels, from_hub):
    import timm

    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.4) or ["resnet18"]
        raise BackboneError(f"timm knows no network {name!r}; did you mean {' or '.join(near)}?")
    try:
        return timm.create_model(
            name,
            pretrained=from_hub,
            features_only=True,
            out_indices=layers,
            in_chans=n_channels,
        )
    except Exception as error:
        if from_hub:
            raise BackboneError(
                f"the ImageNet weights of {name} could not be fetched ({error}); with a network "
                "timm downloads them from its hub, without one pass weights=PATH to a file of "
                'them, or use backbone="tf_efficientnet_lite0", whose weights are installed'
            ) from error
        raise BackboneError(
            f"{name} has no feature pyramid with layers {layers} ({error}); choose another "
            "network or other layers"
        ) from error


def _per_channel(values, n_channels):
    values = torch.tensor(values, dtype=torch.float32)
    if n_channels != len(values):
        values = values.mean().repeat(n_channels)
    return values.view(1, -1, 1, 1)


def _digest(image):
    digest = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()[:40]


def _remember(key, features):
    """What joblib keeps under a key: the features its caller just computed."""
    if features is None:
        raise LookupError(f"no features are kept under {key}")
    return features

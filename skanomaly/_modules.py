"""The torch modules that a detector has fitted: where they are, and copies for a pickle."""

from __future__ import annotations

import copy
from itertools import chain

import torch

from ._process import ONE_AT_A_TIME


def fitted_modules(detector):
    """The torch modules among an object's attributes, those of skorch nets included.

    Parameters
    ----------
    detector : object

    Returns
    -------
    list of torch.nn.Module
    """
    values = (getattr(value, "module_", value) for value in vars(detector).values())
    return [value for value in values if isinstance(value, torch.nn.Module)]


def place(modules, device):
    """Move modules to a device, ready to score; one thread at a time, as others may use them.

    Parameters
    ----------
    modules : list of torch.nn.Module
    device : torch.device
    """
    with ONE_AT_A_TIME:
        for module in modules:
            if module.training or _device_of(module) != device:
                module.to(device).eval()


def on_cpu(value):
    """A module or a skorch net as it is on the CPU; itself if it is there, else a copy.

    Parameters
    ----------
    value : object
        Anything else is given back.

    Returns
    -------
    object
    """
    module = getattr(value, "module_", value)
    if not isinstance(module, torch.nn.Module) or _device_of(module).type == "cpu":
        return value
    moved = copy.deepcopy(module).to("cpu")
    if module is value:
        return moved
    net = copy.copy(value)
    net.module_ = moved
    return net


def _device_of(module):
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device

"""Where PyTorch computes."""

from __future__ import annotations

import torch


def resolve_device(device):
    """The torch device that a ``device`` parameter means.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the first of CUDA, Apple's MPS and the CPU that is present.

    Returns
    -------
    torch.device
    """
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")

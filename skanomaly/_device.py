"""Where PyTorch computes."""

from __future__ import annotations

from functools import lru_cache

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

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return _checked(device)


@lru_cache(maxsize=16)
def _checked(device):
    try:
        found = torch.empty(0, device=device).device
        if found.type == "meta":
            raise RuntimeError("meta tensors hold no numbers")
        return found
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        present = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        present += ["mps"] if torch.backends.mps.is_available() else []
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}); there is "
            f'{" and ".join(present)}: set_params(device="auto") takes the best of these'
        ) from error

"""Gradients with respect to images, for methods whose maps are made of them."""

from contextlib import contextmanager

import torch


@contextmanager
def differentiable(pixels):
    """Images that gradients lead to, within scoring, where PyTorch keeps none.

    Parameters
    ----------
    pixels : tensor
        Of `_compute_maps`.

    Yields
    ------
    tensor
        A copy, which ``torch.autograd.grad`` may be asked about; what is returned of it
        is to be detached.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield pixels.detach().clone().requires_grad_()

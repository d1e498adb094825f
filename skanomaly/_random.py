"""Random numbers of a fit, drawn from a generator of its own."""

from __future__ import annotations

import threading

import torch
from torch.nn import functional as F
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWN_INTO = {
    *(getattr(torch.Tensor, name) for name in ("bernoulli_", "cauchy_", "exponential_")),
    *(getattr(torch.Tensor, name) for name in ("geometric_", "log_normal_", "normal_")),
    *(getattr(torch.Tensor, name) for name in ("random_", "uniform_")),
    *(init.kaiming_normal_, init.kaiming_uniform_, init.normal_, init.orthogonal_, init.sparse_),
    *(init.trunc_normal_, init.uniform_, init.xavier_normal_, init.xavier_uniform_),
}
_DRAWN = {
    *(torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.rand),
    *(torch.randint, torch.randn, torch.randperm),
}
_current = threading.local()

_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}


class drawing_from(TorchFunctionMode):
    """Context in which PyTorch's random functions draw from a generator, in this thread alone.

    PyTorch's own generator is one for the whole process: seeding it moves the caller's,
    and two threads that draw from it change each other's numbers. Numbers are drawn on the
    CPU and moved, so that they are the same for every device.

    Parameters
    ----------
    generator : torch.Generator
        On the CPU.
    """

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def __enter__(self):
        self.before = vars(_current).copy()
        _current.generator = self.generator
        return super().__enter__()

    def __exit__(self, *error):
        vars(_current).clear()
        vars(_current).update(self.before)
        return super().__exit__(*error)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            if function in _DRAWN_INTO:
                return self._draw_into(function, *args, **kwargs)
            if function in _DRAWN:
                return self._draw(function, *args, **kwargs)
            if function in _LIKE:
                tensor, options = args[0], {"dtype": args[0].dtype, "device": args[0].device}
                return self._draw(_LIKE[function], tensor.shape, **(options | kwargs))
            if function is F.dropout:
                return self._drop(*args, **kwargs)
        return function(*args, **kwargs)

    def _draw_into(self, function, tensor, *args, **kwargs):
        kwargs["generator"] = self.generator
        if tensor.device.type == "cpu":
            return function(tensor, *args, **kwargs)
        drawn = function(torch.empty_like(tensor, device="cpu"), *args, **kwargs)
        with torch.no_grad():
            return tensor.copy_(drawn)

    def _draw(self, function, *args, device=None, **kwargs):
        given = next((a.device for a in args if isinstance(a, torch.Tensor)), None)
        args = (a.cpu() if isinstance(a, torch.Tensor) else a for a in args)
        return function(*args, **{**kwargs, "generator": self.generator}).to(device or given)

    def _drop(self, x, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return x
        kept = torch.empty_like(x, device="cpu").bernoulli_(1 - p, generator=self.generator)
        return x * (kept / max(1 - p, 1e-12)).to(x.device)


def seeded_generator(random_state):
    """A generator that a `numpy.random.RandomState` decides, which moves on by one number."""
    return torch.Generator().manual_seed(int(random_state.randint(2**31 - 1)))


def current_generator():
    """The generator that PyTorch's random functions draw from here: a fit's, or PyTorch's own."""
    return _current.__dict__.get("generator", torch.default_generator)

"""ONNX Runtime as what runs a frozen network on a CPU."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections import Counter, OrderedDict

import torch
from torch import nn

from .._process import ONE_AT_A_TIME, exporting
from ..exceptions import BackboneError

# Every spatial size costs an export and a copy of the network; images of ever
# new sizes are better run in PyTorch.
MAX_SIZES = 8
# Sessions of all networks of the process; the one not asked for longest gives way.
MAX_SESSIONS = 16
# A network that could not be exported is tried again after so many seconds.
RETRY_AFTER = 60.0

_sessions = OrderedDict()
_failures = {}
_of_parent = []


def session_for(network, size, engine):
    """ONNX Runtime's session for a network and an image size, built once per process.

    Parameters
    ----------
    network : FrozenNetwork
        On the CPU.
    size : (int, int)
    engine : {"auto", "onnx"}
        Whether to do without a session, with a warning, where none can be built.

    Returns
    -------
    onnxruntime.InferenceSession or None

    Raises
    ------
    BackboneError
        If `engine` is "onnx" and none can be built.
    """
    key = network.digest, size, torch.get_num_threads()
    session = _sessions.get(key)
    if session is not None:
        return session
    with ONE_AT_A_TIME:
        if key in _sessions:  # another thread was first
            _sessions.move_to_end(key)
            return _sessions[key]
        n_sizes = Counter(digest for digest, *_ in _sessions)[network.digest]
        if engine == "auto" and (n_sizes >= MAX_SIZES or _failed_lately(key)):
            return None
        try:
            session = _onnx_session(export_onnx(network, size))
        except Exception as error:  # exporters fail in many ways
            _failures[key] = time.monotonic()
            reason = f"{network.name} cannot be run in ONNX Runtime at {size[0]}x{size[1]}"
            if engine == "onnx":
                raise BackboneError(f'{reason} ({error}); use engine="torch"') from error
            warnings.warn(f"{reason} ({error}); PyTorch runs it instead, slower", stacklevel=2)
            return None
        _sessions[key] = session
        if len(_sessions) > MAX_SESSIONS:
            _sessions.popitem(last=False)
        return session


def _failed_lately(key):
    return time.monotonic() - _failures.get(key, -RETRY_AFTER) < RETRY_AFTER


def _forget_sessions():
    """In a forked child, where their threads are gone, but not their memory: that could hang."""
    _of_parent.append(list(_sessions.values()))
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)


def export_onnx(network, size):
    """The network as an ONNX model for one image size and any batch size.

    Height and width are fixed because "same" padding is then a constant, which
    halves the time an image takes; the TorchScript exporter is used because it
    takes well under a second where the newer one takes minutes.

    Parameters
    ----------
    network : FrozenNetwork
    size : (int, int)

    Returns
    -------
    bytes
        Input "x", float32 (n, C, H, W) in [0, 1]; one output a level.
    """
    example = torch.zeros(2, network.n_channels, *size)
    names = [f"level_{layer}" for layer in network.layers]
    buffer = io.BytesIO()
    with exporting(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing and deprecation notices, not ours to act on
        torch.onnx.export(
            nn.Sequential(network),  # whose mode the exporter sets and puts back
            (example,),
            buffer,
            dynamo=False,
            input_names=["x"],
            output_names=names,
            dynamic_axes={name: {0: "n"} for name in ["x", *names]},
        )
    return buffer.getvalue()


def _onnx_session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the cores from PyTorch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

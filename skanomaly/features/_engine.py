"""ONNX Runtime as what runs a frozen network on a CPU."""

from __future__ import annotations

import io
import logging
import os
import time
import warnings
from collections import Counter, OrderedDict
from functools import cache

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
RETRY_AFTER = 600.0

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
    halves the time an image takes. PyTorch's TorchScript exporter is asked first,
    as it takes well under a second where its successor takes several; the model
    that either writes runs equally fast.

    Parameters
    ----------
    network : FrozenNetwork
    size : (int, int)

    Returns
    -------
    bytes
        Input "x", float32 (n, C, H, W) in [0, 1]; one output a level.

    Warns
    -----
    UserWarning
        If the former fails and the latter does not; once in a process.

    Raises
    ------
    BackboneError
        If the network does not take images of this size.
    """
    with exporting(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing and deprecation notices, not ours to act on
        try:
            return _exported(
                network,
                size,
                dynamo=False,
                dynamic_axes={name: {0: "n"} for name in _names(network)},
            )
        except BackboneError:
            raise
        except Exception:  # exporters fail in many ways, and this one is to be removed
            found = _by_successor(network, size)
    _warn_of_longer_exports()
    return found


def _by_successor(network, size):
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # progress and notices, not ours to act on either
    try:
        n = torch.export.Dim("n", min=1)
        return _exported(
            network, size, dynamo=True, dynamic_shapes=({0: n},), external_data=False, verbose=False
        )
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _exported(network, size, **options):
    """What PyTorch's exporter writes."""
    names, buffer = _names(network), io.BytesIO()
    written = torch.onnx.export(
        nn.Sequential(network).eval(),  # whose mode the exporter sets and puts back
        (torch.zeros(2, network.n_channels, *size),),
        None if options["dynamo"] else buffer,
        input_names=names[:1],
        output_names=names[1:],
        **options,
    )
    return written.model_proto.SerializeToString() if options["dynamo"] else buffer.getvalue()


def _names(network):
    return ["x", *(f"level_{layer}" for layer in network.layers)]


@cache
def _warn_of_longer_exports():
    warnings.warn(
        "PyTorch's TorchScript exporter cannot be used any more, or not for this network; its "
        "successor takes seconds to half a minute for each network and image size, once in a "
        "process, and what it writes is as fast",
        stacklevel=4,
    )


def _onnx_session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the cores from PyTorch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

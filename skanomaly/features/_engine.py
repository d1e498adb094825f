"""ONNX Runtime as what runs a frozen network on a CPU."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn


def export_onnx(pyramid, size):
    """The pyramid as an ONNX model for one image size and any batch size.

    Height and width are fixed because "same" padding is then a constant, which
    halves the time an image takes; the TorchScript exporter is used because it
    takes well under a second where the newer one takes minutes.

    Parameters
    ----------
    pyramid : FeaturePyramid
    size : (int, int)

    Returns
    -------
    bytes
        Input "x", float32 (n, C, H, W) in [0, 1]; one output a level.
    """
    network = _NetworkOnly(pyramid)
    example = torch.zeros(2, pyramid.n_channels, *size)
    names = [f"level_{layer}" for layer in pyramid.layers]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing and deprecation notices, not ours to act on
        torch.onnx.export(
            network,
            (example,),
            buffer,
            dynamo=False,
            input_names=["x"],
            output_names=names,
            dynamic_axes={name: {0: "n"} for name in ["x", *names]},
        )
    return buffer.getvalue()


class _NetworkOnly(nn.Module):
    """The part of a pyramid that is exported: no cache, no engine."""

    def __init__(self, pyramid):
        super().__init__()
        self.pyramid = pyramid

    def forward(self, x):
        return self.pyramid._run_network(x)


def onnx_session(model):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the cores from PyTorch's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

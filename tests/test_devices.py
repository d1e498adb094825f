"""Tensors that pretend to be on a GPU tell, where there is none, where devices are mixed."""

from contextlib import contextmanager

import pytest
import torch
from conftest import DETECTORS, small
from torch._subclasses.fake_tensor import FakeTensorMode

from skanomaly import maps as blurs
from skanomaly.base import BaseImageDetector

GPU = torch.device("cuda", 0)
NOT_PRETENDED = {
    **dict.fromkeys(("CAVGA", "MKD", "VAEGrad"), "gradients are computed by a device's own thread"),
    "PatchRestoration": "codes are drawn from numbers, of which pretended tensors have none",
}
_FITTED = {}


@pytest.fixture(params=DETECTORS)
def fitted(request, textures):
    """A detector, fitted; as it was after the test."""
    if request.param in NOT_PRETENDED:
        pytest.skip(NOT_PRETENDED[request.param])
    if request.param not in _FITTED:
        detector = small(request.param, random_state=0).fit(textures[0].images)
        detector._place(torch.device("cpu"))
        _FITTED[request.param] = detector
    return _FITTED[request.param]


@contextmanager
def on_pretended_gpu(modules):
    """Have tensors, those of modules among them, with a device and a shape and no numbers."""
    # Others may be moved there: the attributes of detectors that are no modules.
    mode, kept = FakeTensorMode(allow_non_fake_inputs=True), []
    for part in {part for module in modules for part in module.modules()}:
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                kept.append((tensors, name, tensor))
                fake = mode.from_tensor(tensor.detach())
                with mode:
                    fake = fake.to(GPU)
                    if tensors is part._parameters:
                        fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                tensors[name] = fake
    try:
        with mode, torch.no_grad():
            yield
    finally:
        for tensors, name, tensor in kept:
            tensors[name] = tensor


def test_scoring_mixes_no_devices(fitted, monkeypatch):
    # What was kept has numbers, and cannot be moved to where there are none.
    monkeypatch.setattr(blurs, "_axis_matrix", blurs._axis_matrix.__wrapped__)
    size = fitted._seen_size or (64, 64)
    with on_pretended_gpu(fitted._modules_fitted()):
        maps = fitted._own_maps(torch.empty(2, fitted.n_channels_in_, *size, device=GPU))
    for found in [maps] if isinstance(maps, torch.Tensor) else maps:
        assert found.device == GPU
        assert len(found) == 2


class Mixes(BaseImageDetector):
    """Keeps a tensor that is no module's, and so stays where it was fitted."""

    image_size = 16

    def _fit_images(self, images, validation):
        self.layer_ = torch.nn.Conv2d(1, 1, 3)
        self.mean_ = torch.zeros(1)

    def _compute_maps(self, pixels):
        return self.layer_(pixels)[:, 0] - self.mean_.expand(14, 14)


def test_a_device_that_is_mixed_in_is_found(textures):
    detector = Mixes().fit(textures[0].images)
    with on_pretended_gpu([detector.layer_]):
        pixels = torch.empty(2, 1, 16, 16, device=GPU)
        with pytest.raises(RuntimeError, match="devices, cuda:0 and cpu"):
            detector._compute_maps(pixels)

import pytest
import torch

from skanomaly.detectors._differentiable import differentiable


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_gradients_lead_to_images_in_any_mode(mode):
    layer = torch.nn.Conv2d(3, 2, 3)
    with mode():
        pixels = torch.rand(2, 3, 8, 8)
        with differentiable(pixels) as x:
            (found,) = torch.autograd.grad(layer(x).square().sum(), x)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    expected = pixels.clone().requires_grad_()
    layer(expected).square().sum().backward()
    torch.testing.assert_close(found, expected.grad)
    assert not pixels.requires_grad


def test_nothing_is_left_in_the_network():
    layer = torch.nn.Conv2d(1, 1, 1)
    with torch.inference_mode(), differentiable(torch.rand(1, 1, 4, 4)) as x:
        torch.autograd.grad(layer(x).sum(), x)
    assert layer.weight.grad is None

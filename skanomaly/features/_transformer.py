"""Plain vision transformers, which see an image as patches: their tokens as feature maps."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from .._process import is_exporting

#: Modules of timm whose networks are plain transformers that take images of any size.
FAMILIES = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")


class PatchTokens(nn.Module):
    """The patch tokens of a plain vision transformer's blocks, from images of any size.

    An image is padded to whole patches, on both sides alike, by the pixels of its border.
    Maps are then interpolated, so that they cover the image and not the padding. Class and
    register tokens are left out.

    Parameters
    ----------
    model : torch.nn.Module
        Of one of the `FAMILIES`, made with ``dynamic_img_size=True``; is cut to size.
    layers : sequence of int
        Its blocks, ascending. The last block's tokens are those after the network's final
        normalisation, where it has one; others are as they leave their block.
    """

    def __init__(self, model, layers):
        super().__init__()
        if layers[0] < 0 or list(layers) != sorted(set(layers)):
            raise ValueError("blocks are counted from 0 and named in ascending order")
        self.layers, self.has_last = list(layers), layers[-1] == len(model.blocks) - 1
        blocks = [model.feature_info[layer] for layer in layers]
        self.channels = tuple(block["num_chs"] for block in blocks)
        self.strides = tuple(block["reduction"] for block in blocks)
        self.pretrained_cfg = model.pretrained_cfg
        model.prune_intermediate_layers(self.layers, prune_norm=not self.has_last)
        self.model = model

    def forward(self, x):
        """Maps (n, c, ceil(H / stride), ceil(W / stride)) of each layer of images (n, C, H, W)."""
        stride = self.strides[0]
        rows, columns = (_Axis(int(n), stride) for n in x.shape[2:])
        if rows.padding or columns.padding:
            x = F.pad(x, (*columns.both_sides, *rows.both_sides), mode="replicate")
        # The exporter knows nothing of antialiasing, and repeats wrongly.
        with _PositionsAsConstants() if is_exporting() else nullcontext():
            levels = self.model.forward_intermediates(
                x, indices=self.layers, output_fmt="NLC", intermediates_only=True
            )
        if self.has_last:
            levels[-1] = self.model.norm(levels[-1])
        maps = []
        for tokens, channels in zip(levels, self.channels):
            f = tokens.reshape(-1, rows.n_patches, columns.n_patches, channels).permute(0, 3, 1, 2)
            if rows.padding:
                f = rows.to_image().to(f) @ f
            if columns.padding:
                f = f @ columns.to_image().to(f).T
            maps.append(f)
        return maps


class _Axis:
    """Height or width of an image, and the patches that cover it."""

    def __init__(self, n_pixels, stride):
        self.n_pixels, self.stride = n_pixels, stride
        self.n_patches = -(-n_pixels // stride)
        self.padding = self.n_patches * stride - n_pixels
        self.both_sides = self.padding // 2, self.padding - self.padding // 2

    def to_image(self):
        """Matrix from tokens to as many places at equal distances, from border to border."""
        tokens = torch.arange(self.n_patches, dtype=torch.float64)
        pixels = (tokens + 0.5) * (self.n_pixels / self.n_patches)
        places = (pixels + self.both_sides[0]) / self.stride - 0.5
        places = places.clamp(0, self.n_patches - 1)
        return (1 - (places[:, None] - tokens).abs()).clamp(min=0)


class _PositionsAsConstants(TorchFunctionMode):
    """Context in which embeddings of positions are constants to who traces.

    They are told from features by having no images: the first axis of what is resized is 1,
    and repeated are sines and cosines (tokens, channels).
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = function(*args, **kwargs)
        is_resized = function is F.interpolate and kwargs.get("antialias") and len(found) == 1
        if is_resized or (function is torch.Tensor.repeat_interleave and found.ndim == 2):
            return torch.from_numpy(found.detach().numpy())
        return found

"""What defects look like: the surface that a region is filled with."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def _surface_image(images, sources, regions, distance):
    """Another image, turned, zoomed and shifted."""
    cos, sin = (regions.zoom * f(regions.turn) for f in (torch.cos, torch.sin))
    theta = torch.stack(
        [
            torch.stack([cos, -sin, regions.shift[:, 0]], 1),
            torch.stack([sin, cos, regions.shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, sources.shape, align_corners=False)
    return F.grid_sample(sources, grid, padding_mode="reflection", align_corners=False)


def _surface_material(images, sources, regions, distance):
    """As "image", but matched in brightness, so that only the texture tells."""
    surface = _surface_image(images, sources, regions, distance)
    mean, std = (f(images, (2, 3), keepdim=True) for f in (torch.mean, torch.std))
    own_mean, own_std = (f(surface, (2, 3), keepdim=True) for f in (torch.mean, torch.std))
    gain = regions.gain[:, None, None, None] * std / (own_std + 1e-6)
    return mean + gain * (surface - own_mean) + regions.offset[:, None, None, None]


def _surface_noise(images, sources, regions, distance):
    """A colour with noise of two grain sizes."""
    surface = regions.color[:, :, None, None]
    for i in range(2):
        noise = regions.smooth_noise(slice(5 + i, 6 + i), regions.grain[:, i])
        hue = regions.contrast[:, i, None] * regions.hues[:, i] / 2
        surface = surface + hue[:, :, None, None] * noise
    return surface


def _surface_flat(images, sources, regions, distance):
    """One colour, unless it is that of what lies below: then its complement."""
    color = regions.color[:, :, None, None]
    contrast = color.mean(dim=1, keepdim=True) - _level_below(images, distance)
    return color.where(contrast.abs() > 0.2, 1 - color).expand_as(images)


def _surface_tint(images, sources, regions, distance):
    """What lies below, darker or, the more likely the darker that is, brighter."""
    rim = torch.exp(-(distance.clamp(min=0) / (0.2 * regions.width[:, None, None] + 1)))
    tint = (regions.tint[:, None, None] * (1 - 0.2 * rim))[:, None]
    brighter = regions.chance[:, None, None, None] > _level_below(images, distance)
    return torch.where(brighter, 1 - tint * (1 - images), tint * images)


def _surface_hole(images, sources, regions, distance):
    """A dark, rough floor, darkest in the shadow of the edge that the light comes over."""
    floor = F.interpolate(F.adaptive_avg_pool2d(images, 4), regions.size, mode="bilinear")
    floor = 0.8 * floor + 0.2 * images
    slopes = torch.gradient(distance, dim=(1, 2))
    shadow = torch.exp(-(distance.clamp(min=0) / (0.3 * regions.width[:, None, None] + 0.5)))
    facing = slopes[0] * regions.turn.sin()[:, None, None]
    facing = (facing + slopes[1] * regions.turn.cos()[:, None, None]).clamp(-1, 1)
    depth = 0.7 * regions.tint[:, None, None] * (1 - shadow * (0.5 + 0.35 * facing))
    grain = regions.smooth_noise(slice(6, 7), regions.width / 4 + 1)
    grain = grain + regions.smooth_noise(slice(7, 8), regions.width / 12 + 1)
    return depth[:, None] * floor * (1 + 0.12 * grain)


def _level_below(images, distance):
    """Mean brightness of what a region covers, (R, 1, 1, 1)."""
    inside = (distance > 0)[:, None]
    n_pixels = inside.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    return (images * inside).mean(dim=1, keepdim=True).sum(dim=(2, 3), keepdim=True) / n_pixels


SURFACES = {
    "image": _surface_image,
    "material": _surface_material,
    "noise": _surface_noise,
    "flat": _surface_flat,
    "tint": _surface_tint,
    "hole": _surface_hole,
}

"""Artificial defects, drawn onto images of good parts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import ndimage

# Below this opacity a defect's rim cannot be seen; it is neither drawn nor masked.
_LEAST_OPACITY = 0.1


def draw_defect(image, defect_type, rng, *, foreign):
    """Draw one defect.

    Parameters
    ----------
    image : ndarray, shape (H, W, C), float in [0, 1]
    defect_type : str
        One of `DEFECT_TYPES`.
    rng : numpy.random.Generator
    foreign : ndarray, shape (H, W, C), float in [0, 1]
        What a patch of foreign texture shows.

    Returns
    -------
    defective : ndarray, shape (H, W, C), float in [0, 1]
        Equal to `image` outside the mask.
    mask : ndarray of bool, shape (H, W)
        True where the defect is.
    """
    opacity, surface = _PAINTERS[defect_type](image, rng, foreign)
    opacity = np.where(opacity >= _LEAST_OPACITY, opacity, 0.0)[..., np.newaxis]
    defective = np.clip((1 - opacity) * image + opacity * surface, 0, 1)
    return defective, opacity[..., 0] > 0


def _scratch(image, rng, foreign):
    """A thin, nearly straight, bright groove with a dark edge, fading at its ends."""
    shape, scale = image.shape[:2], min(image.shape[:2])
    points = _curve(shape, rng, length=rng.uniform(0.25, 0.7) * scale, bend=0.15)
    distance, along = _distance_to_polyline(shape, points)
    half_width = rng.uniform(0.5, 1.2) * max(1, scale / 160)
    fading = np.clip(np.minimum(along, 1 - along) * 6, 0.35, 1)
    groove = _soft_step(half_width - distance)
    edge = _soft_step(2 * half_width - distance) - groove
    bright = np.where(rng.random() < 0.7, 0.95, 0.05)
    surface = np.where(groove > edge, bright, 0.6 * image.mean()) * np.ones_like(image[..., 0])
    return (groove + 0.6 * edge) * fading * rng.uniform(0.7, 1), surface[..., np.newaxis]


def _crack(image, rng, foreign):
    """A dark, jagged, tapering line that branches."""
    shape, scale = image.shape[:2], min(image.shape[:2])
    trunk = _curve(shape, rng, length=rng.uniform(0.35, 0.8) * scale, bend=0.9)
    opacity = _crack_line(shape, trunk, rng.uniform(0.9, 1.8) * max(1, scale / 160))
    for _ in range(rng.integers(1, 4)):
        start = trunk[rng.integers(len(trunk) // 4, len(trunk))]
        branch = _curve(shape, rng, rng.uniform(0.1, 0.3) * scale, bend=0.9, start=start)
        opacity = np.maximum(opacity, _crack_line(shape, branch, 0.9 * max(1, scale / 160)))
    return opacity * rng.uniform(0.8, 1), 0.25 * image.min(axis=(0, 1))


def _crack_line(shape, points, half_width):
    distance, along = _distance_to_polyline(shape, points)
    return _soft_step(half_width * (1 - 0.7 * along) - distance)


def _spot(image, rng, foreign):
    """One to four small, dark or bright specks of irregular outline."""
    shape, scale = image.shape[:2], min(image.shape[:2])
    center = _place(shape, rng, margin=0.15)
    opacity = np.zeros(shape)
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(0.015, 0.045) * scale + 0.5
        opacity = np.maximum(opacity, _blob(shape, center, radius, rng, roughness=0.25, rim=1.0))
        center = np.clip(center + rng.normal(0, 0.08 * scale, 2), 0, np.array(shape) - 1)
    color = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 1)])
    return opacity * rng.uniform(0.75, 1), np.full(image.shape[2], color)


def _stain(image, rng, foreign):
    """A large translucent patch that tints the texture below, darker at its rim."""
    shape, scale = image.shape[:2], min(image.shape[:2])
    radius = rng.uniform(0.1, 0.22) * scale
    blob = _blob(shape, _place(shape, rng, 0.2), radius, rng, roughness=0.35, rim=0.08 * scale)
    ring = 4 * blob * (1 - blob)
    tint = rng.uniform(0.3, 0.75) * (1 - 0.3 * ring)[..., np.newaxis]
    brighter = rng.random() < 0.4
    surface = 1 - tint * (1 - image) if brighter else tint * image
    return np.sqrt(blob) * rng.uniform(0.7, 1), surface


def _missing(image, rng, foreign):
    """A chip broken out: a dark, smooth floor with the shadow of its edge."""
    shape, scale = image.shape[:2], min(image.shape[:2])
    radius = rng.uniform(0.06, 0.16) * scale
    opacity = _polygon(shape, _place(shape, rng, 0.15), radius, rng)
    light = rng.uniform(0, 2 * np.pi)
    offset = 0.35 * radius * np.array([np.sin(light), np.cos(light)])
    shadow = opacity * (1 - ndimage.shift(opacity, offset, order=1))
    floor = rng.uniform(0.35, 0.6) * ndimage.gaussian_filter(image, (radius, radius, 0))
    floor = floor + 0.25 * ndimage.gaussian_filter(rng.normal(0, 0.1, shape), 1)[..., np.newaxis]
    return opacity, np.clip(floor * (1 - 0.7 * shadow[..., np.newaxis]), 0, 1)


def _foreign(image, rng, foreign):
    """A patch of another material, matched in brightness so that only its texture tells."""
    shape, scale = image.shape[:2], min(image.shape[:2])
    radius = rng.uniform(0.08, 0.18) * scale
    opacity = _blob(shape, _place(shape, rng, 0.15), radius, rng, roughness=0.4, rim=1.5)
    mean, spread = image.mean(axis=(0, 1)), image.std(axis=(0, 1))
    matched = (foreign - foreign.mean(axis=(0, 1))) / (foreign.std(axis=(0, 1)) + 1e-6)
    surface = mean + spread * matched * rng.uniform(0.7, 1.3) + rng.normal(0, 0.05)
    return opacity * rng.uniform(0.8, 1), np.clip(surface, 0, 1)


_PAINTERS = {
    "scratch": _scratch,
    "crack": _crack,
    "spot": _spot,
    "stain": _stain,
    "missing": _missing,
    "foreign": _foreign,
}

DEFECT_TYPES = tuple(_PAINTERS)


def _place(shape, rng, margin):
    """A random point, (row, column), away from the border by a share of the size."""
    return rng.uniform(margin, 1 - margin, 2) * np.array(shape)


def _curve(shape, rng, length, bend, start=None):
    """A random walk of about this length through the middle of the image, (m, 2)."""
    n_steps = max(8, int(length / 4))
    turns = np.cumsum(rng.normal(0, bend / np.sqrt(n_steps), n_steps))
    jitter = rng.normal(0, 0.6 * bend, n_steps)
    angles = rng.uniform(0, 2 * np.pi) + turns + jitter
    steps = length / n_steps * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    if start is not None:
        return points + start
    return points - points.mean(axis=0) + _place(shape, rng, margin=0.3)


def _distance_to_polyline(shape, points):
    """Distance of each pixel to a polyline, and how far along it (0 to 1) it is nearest."""
    pixels = np.stack(np.indices(shape), axis=-1).astype(float)
    nearest = np.full(shape, np.inf)
    along = np.zeros(shape)
    for i, (a, b) in enumerate(pairwise(points)):
        step = b - a
        t = np.clip(((pixels - a) @ step) / max(step @ step, 1e-9), 0, 1)
        distance = np.linalg.norm(pixels - a - t[..., np.newaxis] * step, axis=-1)
        closer = distance < nearest
        nearest[closer] = distance[closer]
        along[closer] = (i + t[closer]) / (len(points) - 1)
    return nearest, along


def _blob(shape, center, radius, rng, roughness, rim):
    """An ellipse with a noisy outline, 1 inside, falling to 0 over `rim` pixels."""
    rows, columns = np.indices(shape) - center[:, np.newaxis, np.newaxis]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.6, 1)
    u = np.cos(angle) * rows + np.sin(angle) * columns
    v = (np.cos(angle) * columns - np.sin(angle) * rows) / stretch
    noise = ndimage.gaussian_filter(rng.normal(size=shape), max(1.0, radius / 2))
    noise /= noise.std() + 1e-12
    return _soft_step((radius * (1 + roughness * noise) - np.hypot(u, v)) / rim)


def _polygon(shape, center, radius, rng):
    """A star-shaped polygon of 5 to 9 corners."""
    n = rng.integers(5, 10)
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    radii = radius * rng.uniform(0.45, 1.3, n)
    rows, columns = np.indices(shape) - center[:, np.newaxis, np.newaxis]
    reach = np.interp(
        np.arctan2(rows, columns) % (2 * np.pi),
        np.concatenate([[angles[-1] - 2 * np.pi], angles, [angles[0] + 2 * np.pi]]),
        np.concatenate([[radii[-1]], radii, [radii[0]]]),
    )
    return _soft_step(reach - np.hypot(rows, columns))


def _soft_step(signed_distance):
    """1 well inside, 0 well outside, one pixel of transition."""
    return np.clip(signed_distance + 0.5, 0, 1)

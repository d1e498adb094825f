"""Artificial defects, drawn onto images of good parts: region x texture x opacity.

A defect is a region of irregular shape (a signed distance in pixels, positive
inside, on a coordinate frame that smooth noise deforms), filled with a surface,
at an opacity. Numbers are drawn image by image from each image's own seed;
pixels are computed for all regions of a batch at once, on the images' device.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from torch.utils.data import Dataset

from ._parameters import DeclaredParameters
from .exceptions import InvalidImageError
from .images import ImageDataset, ImageFiles

# Below this opacity a defect's rim cannot be seen; it is neither drawn nor masked.
_LEAST_OPACITY = 0.1

# Cells a side of the random grids that smooth noise is interpolated from.
_NOISE_CELLS = 16
_NOISE_FINENESS = 4

# A stroke is a trunk with up to three branches, each a line through this many knots.
_N_STROKES = 4
_N_KNOTS = 17

_N_EDGES = 7  # of a polygon


class DefectType(NamedTuple):
    """What the defects of one type have in common; pairs are ranges, drawn from evenly.

    Lengths are shares of the image's shorter side; pixels are those of a side of 256
    (of 160 for the width of strokes).
    """

    shape: str  #: "ellipse", "polygon", "stroke" or "noise"
    texture: str  #: "image", "material", "noise", "flat", "tint" or "hole"
    length: tuple = (0.02, 0.25)  #: half the region's length, drawn evenly in its logarithm
    width: tuple = (0.3, 1.0)  #: half its width, as a share of the length; of strokes, in pixels
    roughness: tuple = (0.1, 0.4)  #: of the outline, as a share of half the width
    rim: tuple = (1.0, 3.0)  #: pixels over which the region fades out, at least 1
    opacity: tuple = (0.3, 1.0)
    n_branches: tuple = (0, 0)  #: of a stroke
    n_regions: tuple = (1, 3)
    jag: tuple = (0.0, 0.0)  #: a stroke's knots off the straight line, as a share of its length


_SHAPES = {
    "ellipse": {},
    "polygon": {"roughness": (0.0, 0.1)},
    "stroke": {
        "length": (0.06, 0.45),
        "width": (0.6, 2.5),
        "roughness": (0.0, 0.2),
        "rim": (1.0, 1.5),
        "opacity": (0.5, 1.0),
        "n_branches": (0, 2),
        "jag": (0.0, 0.1),
    },
    "noise": {"length": (0.08, 0.3)},
}
_TEXTURES = ("image", "noise", "flat", "tint")

#: Every shape with every texture, by names such as "ellipse-noise": to learn from.
CORRUPTION_TYPES = {
    f"{shape}-{texture}": DefectType(shape, texture, **ranges)
    for shape, ranges in _SHAPES.items()
    for texture in _TEXTURES
}

#: Defects as an inspector names them: to test with.
DEFECT_TYPES = {
    "scratch": DefectType(
        "stroke",
        "flat",
        length=(0.15, 0.4),
        width=(0.5, 1.2),
        roughness=(0.0, 0.03),
        rim=(1.0, 1.0),
        opacity=(0.7, 1.0),
        n_regions=(1, 2),
    ),
    "crack": DefectType(
        "stroke",
        "hole",
        length=(0.18, 0.4),
        width=(0.9, 1.8),
        roughness=(0.0, 0.05),
        rim=(1.0, 1.0),
        opacity=(0.8, 1.0),
        n_branches=(1, 3),
        n_regions=(1, 1),
        jag=(0.1, 0.2),
    ),
    "spot": DefectType(
        "ellipse",
        "flat",
        length=(0.012, 0.04),
        width=(0.5, 1.0),
        roughness=(0.1, 0.3),
        rim=(1.0, 2.0),
        opacity=(0.75, 1.0),
        n_regions=(1, 4),
    ),
    "stain": DefectType(
        "ellipse",
        "tint",
        length=(0.1, 0.22),
        width=(0.6, 1.0),
        roughness=(0.15, 0.3),
        rim=(10.0, 24.0),
        opacity=(0.7, 1.0),
        n_regions=(1, 1),
    ),
    "missing": DefectType(
        "polygon",
        "hole",
        length=(0.07, 0.16),
        width=(0.6, 1.0),
        roughness=(0.0, 0.1),
        rim=(1.0, 2.0),
        opacity=(0.9, 1.0),
        n_regions=(1, 1),
    ),
    "foreign": DefectType(
        "ellipse",
        "material",
        length=(0.08, 0.18),
        width=(0.6, 1.0),
        roughness=(0.1, 0.25),
        rim=(1.0, 2.0),
        opacity=(0.8, 1.0),
        n_regions=(1, 1),
    ),
}


class Defects(NamedTuple):
    """Images with drawn defects."""

    images: torch.Tensor  #: (n, C, H, W), float32 in [0, 1], as they were outside the masks
    masks: torch.Tensor  #: (n, H, W), bool, True where the defect is
    types: list  #: (n,), the name of each image's type of defect


class DefectGenerator(DeclaredParameters, BaseEstimator):
    """Draw artificial defects onto images.

    Parameters
    ----------
    types : sequence of str or None
        Out of the keys of `CORRUPTION_TYPES` and `DEFECT_TYPES`. None means all
        of `CORRUPTION_TYPES`: elastically deformed ellipses, polygons, branching
        strokes and thresholded noise, filled with another image, procedural
        noise, a plain colour or a tint of what lies below.
    n_regions : (int, int) or None
        Fewest and most regions an image, at least 1; None means the type's own.
    opacity : (float, float) or None
        Range of opacities, within [0, 1]; None means the type's own. What is
        less opaque than 0.1 cannot be seen and is neither drawn nor masked.
    size : float
        Factor on the lengths of all regions.
    texture_images : batch of images, path or None
        Where the texture "image" comes from: images as `BaseImageDetector.fit`
        takes them, or a folder, whose sub-folders count. Detectors read them;
        to `draw` they are given as `sources`. None means other training images.

    Notes
    -----
    A region is where a signed distance, taken on coordinates that smooth noise
    deforms, is positive. Its type and its numbers come from a seed an image, so
    that neither the batch nor the device changes them. With opacity a, which falls
    off over the region's rim, an image x shows (1 - a) x + a t, with t the texture.

    Examples
    --------
    >>> import torch
    >>> from skanomaly.synthesis import DefectGenerator
    >>> images = torch.full((2, 1, 64, 64), 0.5)
    >>> defects = DefectGenerator(types=["scratch", "stain"]).draw(images, seeds=[0, 1])
    >>> defects.images.shape, defects.masks.any(dim=(1, 2)).tolist()
    (torch.Size([2, 1, 64, 64]), [True, True])
    """

    types: Sequence[str] | None = None
    n_regions: tuple[int, int] | None = None
    opacity: tuple[float, float] | None = None
    size: float = 1.0
    texture_images: object = None

    def draw(self, images, seeds, sources=None):
        """Draw one type of defect onto each image.

        Parameters
        ----------
        images : tensor, shape (n, C, H, W), float32 in [0, 1]
        seeds : sequence of int, length n
            Equal seeds draw equal defects on images of one size.
        sources : tensor, shape (n, C, H, W), float32 in [0, 1], or None, default=None
            What the textures "image" and "material" (of the type "foreign") are cut
            from, image by image. None means the image before it in the batch.

        Returns
        -------
        Defects
            On the images' device.
        """
        types = self._types()
        self._check_ranges()
        sources = images.roll(1, 0) if sources is None else sources
        sketches = [_sketch(self, types, images.shape[1:], int(seed)) for seed in seeds]
        names = [name for name, _ in sketches]
        regions = _Regions([rows for _, rows in sketches], images.shape[2:], images.device)
        images, masks = _paint(images, sources, regions)
        return Defects(images, masks, names)

    def _types(self):
        known = {**CORRUPTION_TYPES, **DEFECT_TYPES}
        names = list(CORRUPTION_TYPES) if self.types is None else list(self.types)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(f"types must be out of {sorted(known)}, got {self.types!r}")
        return {name: known[name] for name in names}

    def _check_ranges(self):
        for name, least, most in (("n_regions", 1, np.inf), ("opacity", 0, 1)):
            value = getattr(self, name)
            if value is not None and not least <= value[0] <= value[1] <= most:
                raise ValueError(
                    f"{name} must be (low, high) with {least} <= low <= high <= {most}, "
                    f"got {value!r}"
                )
        if not self.size > 0:
            raise ValueError(f"size must be above 0, got {self.size!r}")


def _sketch(generator, types, shape, seed):
    """Every number of one image's defect: its type's name, and a row a region."""
    n_channels, *size = shape
    rng = np.random.default_rng(seed)
    name = list(types)[rng.integers(len(types))]
    kind = types[name]
    least, most = generator.n_regions or kind.n_regions
    rows = [
        _region(kind, generator, n_channels, size, rng)
        for _ in range(rng.integers(least, most + 1))
    ]
    return name, rows


def _region(kind, generator, n_channels, size, rng):
    side = min(size)
    stroke = kind.shape == "stroke"
    low, high = np.log(kind.length)
    length = max(1.5, generator.size * side * np.exp(rng.uniform(low, high)))
    width = rng.uniform(*kind.width) * (max(1.0, side / 160) if stroke else length)
    margin = 0.25 if stroke else 0.1
    deformed = length if stroke else width  # what the outline's noise is measured by
    return {
        "shape": kind.shape,
        "texture": kind.texture,
        "center": np.floor(rng.uniform(margin, 1 - margin, 2) * size),
        "angle": rng.uniform(0, 2 * np.pi),
        "length": length,
        "width": max(width, 0.6),
        "rim": max(1.0, rng.uniform(*kind.rim) * side / 256),
        "opacity": rng.uniform(*(generator.opacity or kind.opacity)),
        "amplitude": rng.uniform(*kind.roughness) * deformed,
        "cell": max(2.0, deformed * rng.uniform(0.5, 1.4)),
        "normals": (np.arange(_N_EDGES) + rng.uniform(-0.4, 0.4, _N_EDGES))
        * (2 * np.pi / _N_EDGES),
        "edges": rng.uniform(0.5, 1.0, _N_EDGES),
        **_strokes(kind, length, rng),
        "zoom": np.exp(rng.uniform(np.log(0.6), np.log(1.6))),
        "turn": rng.uniform(0, 2 * np.pi),
        "shift": rng.uniform(-1, 1, 2),
        "gain": rng.uniform(0.7, 1.3),
        "offset": rng.normal(0, 0.05),
        "grain": side * np.exp(rng.uniform(np.log(0.01), np.log(0.3), 2)),
        "contrast": rng.uniform(0, 0.4, 2),
        "color": _color(kind.texture, n_channels, rng),
        "hues": rng.uniform(-1, 1, (2, n_channels)) + rng.choice([-1.5, 1.5]),
        "tint": rng.uniform(0.3, 0.65),
        "chance": rng.random(),
        "noise": rng.standard_normal((8, _NOISE_CELLS, _NOISE_CELLS), np.float32),
    }


def _color(texture, n_channels, rng):
    """Dark or bright and nearly grey where plain, anything where it carries noise."""
    if texture == "flat":
        level = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 1)])
        return np.clip(level + rng.normal(0, 0.02, n_channels), 0, 1)
    grey = rng.uniform(0, 1)
    return np.clip(grey + rng.uniform(-0.4, 0.4, n_channels) * rng.integers(2), 0, 1)


def _strokes(kind, length, rng):
    """A trunk and its branches, each of these a row of

    "strokes": where it starts, (along, across) the trunk; its direction; its length; its
    width as a share of the trunk's. A length of 0 means that there is none.
    "knots": how far it is from the straight line at points evenly spaced along it.
    """
    strokes, knots = np.zeros((_N_STROKES, 5)), np.zeros((_N_STROKES, _N_KNOTS))
    strokes[0] = -length, 0, 0, 2 * length, 1
    for i in range(1, rng.integers(kind.n_branches[0], kind.n_branches[1] + 1) + 1):
        turn = rng.choice([-1, 1]) * rng.uniform(0.3, 1.1)
        strokes[i] = rng.uniform(-0.6, 0.7) * length, 0, turn, rng.uniform(0.3, 0.8) * length, 0.7
    jag = rng.uniform(*kind.jag) * strokes[:, 3]
    for i in range(_N_STROKES):
        knots[i] = jag[i] * _zigzag(rng)
    knots[0] -= knots[0, _N_KNOTS // 2]  # the trunk passes the region's centre
    along = np.linspace(-length, length, _N_KNOTS)
    strokes[1:, 1] = np.interp(strokes[1:, 0], along, knots[0])  # branches start on the trunk
    return {"strokes": strokes, "knots": knots}


def _zigzag(rng):
    """A rough line from 0 to 0, by displacing midpoints at ever finer scale."""
    line = np.zeros(_N_KNOTS)
    step, height = _N_KNOTS - 1, 1.0
    while step > 1:
        ends = line[::step]
        middles = (ends[1:] + ends[:-1]) / 2
        line[step // 2 :: step] = middles + height * rng.uniform(-1, 1, len(middles))
        step, height = step // 2, 0.55 * height
    return line


class _Regions:
    """The regions of a batch, each number a tensor over them, and their coordinate frames."""

    def __init__(self, rows_by_image, size, device):
        rows = [row for rows in rows_by_image for row in rows]
        self.image = np.repeat(np.arange(len(rows_by_image)), [len(r) for r in rows_by_image])
        self.rank = np.concatenate([np.arange(len(r)) for r in rows_by_image])
        self.shape = np.array([row["shape"] for row in rows])
        self.texture = np.array([row["texture"] for row in rows])
        self.size, self.device = tuple(size), device
        self.numbers = {
            name: torch.from_numpy(np.array([row[name] for row in rows], np.float32)).to(device)
            for name in rows[0]
            if name not in ("shape", "texture")
        }
        fine = F.interpolate(
            self.numbers["noise"], scale_factor=_NOISE_FINENESS, mode="bicubic", align_corners=False
        )
        self.numbers["noise"] = fine / fine.std(dim=(2, 3), keepdim=True)
        y, x = (torch.arange(n, dtype=torch.float32, device=device) for n in size)
        self.dy = (y - self.center[:, :1])[:, :, None]  # (R, H, 1)
        self.dx = (x - self.center[:, 1:])[:, None, :]  # (R, 1, W)

    def __getattr__(self, name):
        try:
            return self.__dict__["numbers"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self):
        return len(self.image)

    def choose(self, chosen):
        """The regions at these positions."""
        part = object.__new__(_Regions)
        part.image, part.rank = self.image[chosen], self.rank[chosen]
        part.shape, part.texture = self.shape[chosen], self.texture[chosen]
        part.size, part.device = self.size, self.device
        index = torch.as_tensor(np.flatnonzero(chosen), device=self.device)
        part.numbers = {name: values[index] for name, values in self.numbers.items()}
        part.dy, part.dx = self.dy[index], self.dx[index]
        return part

    def smooth_noise(self, channels, cell):
        """Noise of unit variance and correlation length `cell` pixels, (R, c, H, W)."""
        grid = torch.stack(
            torch.broadcast_tensors(self.dx / cell[:, None, None], self.dy / cell[:, None, None]),
            dim=-1,
        )
        return F.grid_sample(
            self.noise[:, channels],
            grid * (2 / _NOISE_CELLS),
            padding_mode="reflection",
            align_corners=False,
        )

    def frame(self):
        """Coordinates along and across each region, deformed by noise but for its centre."""
        cos, sin = (f(self.angle)[:, None, None] for f in (torch.cos, torch.sin))
        u, v = cos * self.dx + sin * self.dy, cos * self.dy - sin * self.dx
        bend = self.smooth_noise(slice(0, 2), self.cell)
        bend = bend + 0.25 * self.smooth_noise(slice(2, 4), self.cell / 4)
        rows, columns = self.center.long().T
        bend = bend - bend[torch.arange(len(self)), :, rows, columns][:, :, None, None]
        bend = bend * self.amplitude[:, None, None, None]
        return u + bend[:, 0], v + bend[:, 1]


def _ellipse(regions):
    u, v = regions.frame()
    a, b = regions.length[:, None, None], regions.width[:, None, None]
    return b * (1 - torch.hypot(u / a, v / b))


def _polygon(regions):
    """Inside every one of seven half-planes, so convex, with straight edges."""
    u, v = regions.frame()
    a, b = regions.length[:, None, None], regions.width[:, None, None]
    distance = torch.full_like(u, torch.inf)
    for normal, edge in zip(regions.normals.T[:, :, None, None], regions.edges.T[:, :, None, None]):
        inside = edge - normal.cos() * (u / a) - normal.sin() * (v / b)
        distance = torch.minimum(distance, b * inside)
    return distance


def _stroke(regions):
    """Within half a width of a trunk or of one of its branches, thinner towards the ends."""
    u, v = regions.frame()
    distance = torch.full_like(u, -torch.inf)
    for stroke, knots in zip(regions.strokes.unbind(1), regions.knots.unbind(1)):
        if not stroke.any():
            continue
        start, offset, turn, length, relative_width = stroke.T[:, :, None, None]
        along = turn.cos() * (u - start) + turn.sin() * (v - offset)
        across = turn.cos() * (v - offset) - turn.sin() * (u - start)
        share = along / length.clamp(min=1)
        line, slope = _interpolate(knots, share)
        across = (across - line) / (1 + (slope / length.clamp(min=1)).square()).sqrt()
        beyond = (along - length).clamp(min=0) + (-along).clamp(min=0)
        taper = 1 - 0.7 * (2 * share.clamp(0, 1) - 1).abs()
        half_width = regions.width[:, None, None] * relative_width * taper
        inside = half_width - torch.hypot(across, beyond)
        distance = torch.maximum(distance, inside.where(length > 0, -torch.inf))
    return distance


def _interpolate(knots, share):
    """Value and slope of the lines through `knots` (R, K) at shares (R, H, W) of their length."""
    position = share.clamp(0, 1) * (knots.shape[1] - 1)
    left = position.long().clamp(max=knots.shape[1] - 2)
    a, b = (knots.gather(1, i.flatten(1)).view_as(share) for i in (left, left + 1))
    return a + (position - left) * (b - a), (b - a) * (knots.shape[1] - 1)


def _noise(regions):
    """Where smooth noise exceeds its value near the centre, within an ellipse."""
    noise = regions.smooth_noise(slice(4, 5), regions.width / 2)[:, 0]
    rows, columns = regions.center.long().T
    at_center = noise[torch.arange(len(regions)), rows, columns]
    threshold = torch.minimum(at_center - 0.3, torch.tensor(0.2, device=regions.device))
    inside = (noise - threshold[:, None, None]) * regions.width[:, None, None] / 4
    return torch.minimum(inside, _ellipse(regions))


_SIGNED_DISTANCE = {"ellipse": _ellipse, "polygon": _polygon, "stroke": _stroke, "noise": _noise}


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


_SURFACES = {
    "image": _surface_image,
    "material": _surface_material,
    "noise": _surface_noise,
    "flat": _surface_flat,
    "tint": _surface_tint,
    "hole": _surface_hole,
}


def _paint(images, sources, regions):
    """Blend every region into its image, in the order in which they were drawn."""
    painted, masks = images.clone(), torch.zeros_like(images[:, 0], dtype=torch.bool)
    for rank in range(regions.rank.max() + 1):
        for shape, texture in sorted(set(zip(regions.shape, regions.texture))):
            chosen = (regions.rank == rank) & (regions.shape == shape)
            chosen &= regions.texture == texture
            if not chosen.any():
                continue
            part = regions.choose(chosen)
            image = torch.as_tensor(part.image, device=images.device)
            below = painted[image]
            distance = _SIGNED_DISTANCE[shape](part)  # (R, H, W)
            surface = _SURFACES[texture](below, sources[image], part, distance)
            opacity = (distance / part.rim[:, None, None] + 0.5).clamp(0, 1)
            opacity = opacity * part.opacity[:, None, None]
            opacity = opacity.where(opacity >= _LEAST_OPACITY, 0)
            painted[image] = below + opacity[:, None] * (surface.clamp(0, 1) - below)
            masks[image] |= opacity > 0
    return painted, masks


class CorruptionDataset(Dataset):
    """Normal images with what `DefectGenerator.draw` needs to draw onto them.

    It gives batches of images, seeds and sources, not the corrupted images: these
    are drawn from them where the network is, for a whole batch at once.

    Parameters
    ----------
    images : ImageDataset
        What is drawn onto.
    generator : DefectGenerator
        Its `texture_images` are the sources.
    others : CorruptionDataset or None, default=None
        One whose sources, and size of images, are taken: for images kept out of
        training, that of the images trained on. None means the generator's
        sources, or else `images`, of which an image is then given another one.
    crop_size : int or None, default=None
        Side of a random square of each image that is taken; None takes all of it,
        and then all images must share a size.
    fixed : bool, default=False
        Give the same crops, seeds and sources every time, to compare epochs by.
        Otherwise they follow PyTorch's random state.
    n_jobs : int or None, default=None
        Threads that read images, once if they fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> from torch.utils.data import DataLoader
    >>> from skanomaly.images import ImageDataset
    >>> from skanomaly.synthesis import CorruptionDataset, DefectGenerator
    >>> images = ImageDataset(np.random.default_rng(0).random((6, 48, 64)))
    >>> generator = DefectGenerator()
    >>> dataset = CorruptionDataset(images, generator, crop_size=32)
    >>> for x, seeds, sources in DataLoader(dataset, 4, collate_fn=dataset.collate):
    ...     print(generator.draw(x, seeds, sources).images.shape)
    torch.Size([4, 1, 32, 32])
    torch.Size([2, 1, 32, 32])
    """

    def __init__(self, images, generator, others=None, *, crop_size=None, fixed=False, n_jobs=None):
        self.fixed = fixed
        self.images = _Cuts(
            images, crop_size, n_jobs, None if others is None else others.images.size
        )
        if others is not None:
            self.sources = others.sources
        elif generator.texture_images is not None:
            self.sources = self._open(generator.texture_images, images.n_channels, n_jobs)
        else:
            self.sources = self.images

    def __len__(self):
        return len(self.images)

    def digest(self):
        """Of the images that are drawn onto, and of those that textures are cut from."""
        return [self.images.digest(), self.sources.digest()]

    def __getitems__(self, indices):
        """The batch (pixels, seeds, sources) of these images."""
        seeds = indices if self.fixed else torch.randint(2**62, (len(indices),)).tolist()
        pairs = [self._pair(int(i), int(seed)) for i, seed in zip(indices, seeds)]
        pixels, sources = (torch.stack(part) for part in zip(*pairs))
        return pixels, torch.tensor(seeds), sources

    def _pair(self, i, seed):
        """An image and its source."""
        rng = np.random.default_rng([seed, 1])  # other numbers than the defect's own
        skip = self.sources is self.images and len(self.images) > 1  # itself
        j = int(rng.integers(len(self.sources) - skip))
        return self.images.cut(i, rng), self.sources.cut(j + (skip and j >= i), rng)

    def _open(self, textures, n_channels, n_jobs):
        """`texture_images`, resized to what is cut from the images."""
        if isinstance(textures, (str, os.PathLike)):
            textures = ImageFiles.from_folder(textures, recursive=True)
        size = self.images.size
        try:
            textures = ImageDataset(textures, n_channels=n_channels, image_size=size)
            return _Cuts(textures, None, n_jobs)
        except InvalidImageError as error:
            reason = f"{error.reason} (one of the generator's texture_images)"
            raise InvalidImageError(reason, index=error.index, path=error.path) from error

    @staticmethod
    def collate(batch):
        """What `__getitems__` has put together already."""
        return batch


class _Cuts:
    """Images of one size: whole ones, or random squares of larger ones."""

    def __init__(self, images, crop_size, n_jobs, size=None):
        self.indices, self.crop_size, self.digest = images.indices, crop_size, images.digest
        self.images = images.in_memory(n_jobs=n_jobs)
        first = (crop_size, crop_size) if crop_size else tuple(self.images[0].shape[1:])
        self.size = first if size is None else size

    def __len__(self):
        return len(self.images)

    def cut(self, i, rng):
        """Image i, or a square of it."""
        pixels = self.images[i]
        height, width = pixels.shape[1:]
        if self.crop_size is None:
            if (height, width) != self.size:
                raise InvalidImageError(
                    f"is {height} x {width} pixels, others are {self.size[0]} x {self.size[1]}; "
                    "to train on several sizes set image_size or crop_size",
                    index=int(self.indices[i]),
                )
            return pixels
        if min(height, width) < self.crop_size:
            raise InvalidImageError(
                f"is {height} x {width} pixels, smaller than crop_size={self.crop_size}",
                index=int(self.indices[i]),
            )
        top, left = (int(rng.integers(n - self.crop_size + 1)) for n in (height, width))
        return pixels[:, top : top + self.crop_size, left : left + self.crop_size]

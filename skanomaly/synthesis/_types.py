"""Types of defects: what their region and surface are, and the ranges of their numbers."""

from __future__ import annotations

from typing import NamedTuple


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


SHAPES = {
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
TEXTURES = ("image", "noise", "flat", "tint")

#: Every shape with every texture, by names such as "ellipse-noise": to learn from.
CORRUPTION_TYPES = {
    f"{shape}-{texture}": DefectType(shape, texture, **ranges)
    for shape, ranges in SHAPES.items()
    for texture in TEXTURES
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

"""Loaders and generators, each returning a `sklearn.utils.Bunch`."""

from ._folders import load_image_folder, load_mvtec_ad
from ._generators import make_texture_defects
from ._one_class import load_one_class
from ._visa import load_visa

__all__ = [
    "load_image_folder",
    "load_mvtec_ad",
    "load_one_class",
    "load_visa",
    "make_texture_defects",
]

"""Loaders and generators, each returning a `sklearn.utils.Bunch`."""

from ._folders import load_image_folder, load_mvtec_ad
from ._generators import make_texture_defects

__all__ = ["load_image_folder", "load_mvtec_ad", "make_texture_defects"]

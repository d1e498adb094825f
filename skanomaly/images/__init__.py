"""What a batch of images is: lazy files, reading, checks, regions of interest, the data set."""

from ._checks import (
    check_channels,
    check_images,
    check_values,
    checked_image_size,
    checked_value_range,
    path_of,
    range_of,
    to_array,
)
from ._conversion import converted, traced_conversion
from ._dataset import MAX_BYTES_IN_MEMORY, ImageBatch, ImageDataset
from ._files import ImageFiles
from ._lazy import LazyImages, taken
from ._light import grey_of, sharpness_of
from ._listing import IMAGE_SUFFIXES, is_listed
from ._marks import MarkedImages, Marks
from ._part import PartOfBatch
from ._reading import read_image, read_size
from ._regions import Regions
from ._resizing import resized, seen_pixels
from ._spill import allocated_array
from ._stacking import stack
from ._urls import is_url, state_of_url

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES_IN_MEMORY",
    "ImageBatch",
    "ImageDataset",
    "ImageFiles",
    "LazyImages",
    "MarkedImages",
    "Marks",
    "PartOfBatch",
    "Regions",
    "allocated_array",
    "check_channels",
    "check_images",
    "check_values",
    "checked_image_size",
    "checked_value_range",
    "converted",
    "grey_of",
    "is_listed",
    "is_url",
    "path_of",
    "range_of",
    "read_image",
    "read_size",
    "resized",
    "seen_pixels",
    "sharpness_of",
    "stack",
    "state_of_url",
    "taken",
    "to_array",
    "traced_conversion",
]

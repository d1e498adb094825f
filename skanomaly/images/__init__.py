"""What a batch of images is: lazy files, reading, checks, regions of interest, the data set."""

from ._checks import check_images, range_of
from ._dataset import MAX_BYTES_IN_MEMORY, ImageBatch, ImageDataset
from ._files import IMAGE_SUFFIXES, ImageFiles
from ._reading import read_image
from ._regions import Regions
from ._stacking import stack

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES_IN_MEMORY",
    "ImageBatch",
    "ImageDataset",
    "ImageFiles",
    "Regions",
    "check_images",
    "range_of",
    "read_image",
    "stack",
]

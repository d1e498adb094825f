"""What is done to images before a detector sees them: transformers, lazily; and their audit."""

from ._align import Align
from ._cropping import Crop, CropToObject, Resize
from ._intensity import CorrectIllumination, EqualizeHistogram, ImageTransformer, ToGrey, ToRGB
from ._placement import Placement
from ._transformer import BaseImageTransformer, TransformedImages
from .audit import ImageAudit, audit_images

__all__ = [
    "Align",
    "BaseImageTransformer",
    "CorrectIllumination",
    "Crop",
    "CropToObject",
    "EqualizeHistogram",
    "ImageAudit",
    "ImageTransformer",
    "Placement",
    "Resize",
    "ToGrey",
    "ToRGB",
    "TransformedImages",
    "audit_images",
]

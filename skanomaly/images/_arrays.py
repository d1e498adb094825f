"""Arrays of other libraries as NumPy's."""

from __future__ import annotations

import sys

import numpy as np

from ..exceptions import InvalidImageError


def is_array_like(image):
    """Whether it is NumPy's array, or one that can be taken for one."""
    return isinstance(image, np.ndarray) or (
        not isinstance(image, type)
        and (hasattr(image, "__array__") or hasattr(image, "__dlpack__"))
    )


def as_array(image):
    """An array or tensor, on whatever device, as NumPy's.

    Raises
    ------
    InvalidImageError
        If its library does not hand it over.
    """
    if isinstance(image, np.ndarray):
        return image
    torch = sys.modules.get("torch")  # where it was not imported, nothing is a tensor
    try:
        if torch is not None and isinstance(image, torch.Tensor):
            image = image.detach().cpu()
            return (image.float() if image.dtype == torch.bfloat16 else image).numpy()
        array = np.asarray(image) if hasattr(image, "__array__") else np.from_dlpack(image)
    except Exception as error:  # of whatever kind the library raises
        raise InvalidImageError(
            f"is a {type(image).__name__} that cannot be had as an array ({error}); convert it "
            "with NumPy"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidImageError(f"is a {type(image).__name__} that gives no array")
    return array

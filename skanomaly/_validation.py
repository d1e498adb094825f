"""What every metric and splitter takes as the truth, checked in one place."""

from __future__ import annotations

from numbers import Integral

import numpy as np

_EXPECTED = "a label (+1 normal, -1 anomalous) or a mask (H, W)"


def image_labels(y, n=None, name="y"):
    """The label of each image, from labels or from masks.

    Parameters
    ----------
    y : array-like of int, shape (n,), or array of bool, shape (n, H, W), or \
            sequence of (H, W)
        Labels, +1 normal and -1 anomalous, or masks, True or 1 where the defect
        is. An image is anomalous where its mask marks any pixel.
    n : int or None, default=None
        How many images there are; None takes any number.
    name : str, default="y"
        What an error calls `y`.

    Returns
    -------
    ndarray of int, shape (n,)
        +1 normal, -1 anomalous.

    Raises
    ------
    ValueError
        If `y` is None, holds anything else or is not of length `n`.
    """
    try:
        y = list(y)
    except TypeError:
        raise ValueError(f"{name} is {y!r}, expected {_EXPECTED} for each image") from None
    if n is not None and len(y) != n:
        raise ValueError(f"{name} is of length {len(y)}, X of length {n}; expected the same")
    if are_masks(y):
        has_defect = [_has_defect(f"{name}[{i}]", mask) for i, mask in enumerate(y)]
        return np.where(has_defect, -1, 1)
    _check_labels(y, name)
    return np.array(y, dtype=int)


def _check_labels(labels, name):
    for i, label in enumerate(labels):
        if isinstance(label, (bool, np.bool_)) or label not in (1, -1):
            hint = ""
            if all(label in (0, 1) for label in labels):
                hint = (
                    f"; pass np.where({name} == 0, 1, -1) if 0 means normal and 1 anomalous, "
                    f"np.where({name} == 1, 1, -1) if 1 means normal"
                )
            found = label.item() if isinstance(label, np.generic) else label
            raise ValueError(f"{name}[{i}] is {found!r}, expected {_EXPECTED}{hint}")


def _has_defect(name, mask):
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"{name} has shape {mask.shape}, expected a mask (H, W)")
    return _as_binary(mask, f"mask {name}").any()


def product_names(product, n, name="product"):
    """The product of each image.

    Parameters
    ----------
    product : str, int, or array-like of such, shape (n,)
        One for all images, or one for each.
    n : int
        How many images there are.
    name : str, default="product"
        What an error calls `product`.

    Returns
    -------
    list of str, or list of int

    Raises
    ------
    ValueError
        If it is None, holds anything else, both kinds, or is not of length `n`.
    """
    if product is None:
        raise ValueError(
            f"{name} is None; pass the product of each image, a str or an int. In searches and "
            "pipelines sklearn.set_config(enable_metadata_routing=True) hands it on, also to the "
            "scorers of skanomaly.metrics, but not to those of scikit-learn"
        )
    if is_product_name(product):
        return [_plain(product)] * n
    if np.ndim(product) != 1:
        raise ValueError(
            f"{name} has shape {np.shape(product)}, expected a str or an int, or ({n},) of such"
        )
    names = list(product)
    if len(names) != n:
        raise ValueError(f"{name} is of length {len(names)}, X of length {n}; expected the same")
    for i, found in enumerate(names):
        if not is_product_name(found):
            raise ValueError(f"{name}[{i}] is {found!r}, expected a str or an int")
        if isinstance(found, str) != isinstance(names[0], str):
            raise ValueError(
                f"{name}[{i}] is {found!r} and {name}[0] {names[0]!r}; expected all str or all int"
            )
    return [_plain(found) for found in names]


def is_product_name(product):
    """Whether it is the name of one product."""
    return isinstance(product, (str, Integral)) and not isinstance(product, (bool, np.bool_))


def _plain(product):
    return str(product) if isinstance(product, str) else int(product)


def are_masks(y):
    """Whether an item of `y` is more than a label."""
    return any(np.ndim(item) for item in y)


def check_are_masks(y, n, metric):
    """Raise ValueError unless `y` are n masks; what they hold is checked with the maps."""
    if y is None or len(y) != n or not are_masks(y):
        found = "None" if y is None else "labels" if len(y) == n else f"of length {len(y)}"
        raise ValueError(
            f"{metric} compares maps with masks, but y is {found}; pass {n} masks (H, W), True "
            "where the defect is"
        )


def check_scores(y_score, n):
    """Scores as an array (n,) of finite floats."""
    y_score = np.asarray(y_score, dtype=float)
    if y_score.shape != (n,):
        raise ValueError(f"y_score has shape {y_score.shape}, expected ({n},), one an image")
    not_finite = np.flatnonzero(~np.isfinite(y_score))
    if len(not_finite):
        i = not_finite[0]
        raise ValueError(f"y_score[{i}] is {y_score[i]}, expected a finite number")
    return y_score


def check_rate(rate, name, *, zero_is_allowed):
    """Raise ValueError unless it is a share of images."""
    if not (0 <= rate <= 1 if zero_is_allowed else 0 < rate <= 1):
        raise ValueError(f"{name} must lie in {'[' if zero_is_allowed else '('}0, 1], got {rate}")


def check_masks_and_maps(masks, maps):
    """Masks and maps as two lists of matching arrays, (H, W) each; masks of bool.

    Raises
    ------
    ValueError
        If they differ in number or shape, or a mask is not binary, or a map holds
        anything but finite numbers; it names the first that does.
    """
    for name, images in (("masks", masks), ("maps", maps)):
        _check_has_length(images, name)
    if len(masks) != len(maps):
        raise ValueError(f"there are {len(masks)} masks and {len(maps)} maps, expected as many")
    if len(masks) == 0:
        raise ValueError("there are no masks and maps, expected at least one")
    pairs = [_check_pair(i, *pair) for i, pair in enumerate(zip(masks, maps))]
    return [mask for mask, _ in pairs], [anomaly_map for _, anomaly_map in pairs]


def check_maps(maps):
    """Maps as a list of arrays, (H, W) each.

    Raises
    ------
    ValueError
        If they are none, one map instead of several, or one holds anything but finite
        numbers; it names the first that does.
    """
    _check_has_length(maps, "maps")
    if getattr(maps, "ndim", 3) == 2:
        raise ValueError(
            f"maps is one map of shape {tuple(maps.shape)}, expected several; pass [maps]"
        )
    if len(maps) == 0:
        raise ValueError("there are no maps, expected at least one")
    return [_check_map(i, np.asarray(anomaly_map)) for i, anomaly_map in enumerate(maps)]


def _check_has_length(images, name):
    if not hasattr(images, "__len__") or isinstance(images, (str, bytes)):
        raise ValueError(
            f"{name} is a {type(images).__name__}, expected an array (n, H, W) or a sequence "
            "of (H, W)"
        )


def _check_pair(i, mask, anomaly_map):
    mask, anomaly_map = np.asarray(mask), np.asarray(anomaly_map)
    if mask.ndim != 2 or mask.shape != anomaly_map.shape or mask.size == 0:
        raise ValueError(
            f"mask {i} has shape {mask.shape} and map {i} {anomaly_map.shape}, "
            "expected the same (H, W)"
        )
    return _as_binary(mask, f"mask {i}"), _check_map(i, anomaly_map)


def _check_map(i, anomaly_map):
    if anomaly_map.ndim != 2 or anomaly_map.size == 0:
        raise ValueError(
            f"map {i} has shape {anomaly_map.shape}, expected (H, W) with one pixel or more"
        )
    if anomaly_map.dtype.kind not in "buif":
        raise ValueError(f"map {i} holds {anomaly_map.dtype}, expected real numbers")
    if anomaly_map.dtype == bool:
        anomaly_map = anomaly_map.view(np.uint8)
    if anomaly_map.dtype.kind in "ui" and anomaly_map.dtype.itemsize == 8:
        if max(-int(anomaly_map.min()), int(anomaly_map.max())) > 2**53:
            raise ValueError(
                f"map {i} holds integers beyond 2**53, which floats cannot tell apart; scale them"
            )
        anomaly_map = anomaly_map.astype(float)
    if anomaly_map.dtype.kind == "f" and not np.isfinite(anomaly_map).all():
        raise ValueError(f"map {i} holds NaN or infinity, expected finite numbers")
    return anomaly_map


def _as_binary(mask, name):
    if mask.dtype == bool:
        return mask
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"{name} holds other values than 0 and 1; pass mask > 0")
    return mask.astype(bool)


def check_max_fpr(max_fpr):
    """Raise ValueError unless it is a rate to integrate up to."""
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must lie in (0, 1], got {max_fpr}")


def check_fpr_bounds(fpr_bounds):
    """Raise ValueError unless they are two ascending rates above 0."""
    low, high = fpr_bounds
    if not 0 < low < high <= 1:
        raise ValueError(f"fpr_bounds must be 0 < low < high <= 1, got {low} and {high}")

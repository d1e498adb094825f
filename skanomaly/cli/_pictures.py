"""Files of anomaly maps: pictures to look at, or the values themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .._atomic import replaced
from ._output import CommandError, text_of

# Map thresholds at the top of the scale of 16-bit files.
TOP = 4
SUFFIXES = {"picture": ".map.png", "png16": ".map16.png", "npy": ".map.npy"}


class MapFiles:
    """Writes the maps of images below a folder, under the images' names.

    Parameters
    ----------
    folder : str
    kind : {"picture", "png16", "npy"}
    detector : detector
    """

    def __init__(self, folder, kind, detector):
        self.folder, self.kind, self.detector = Path(folder), kind, detector
        if kind == "png16" and not detector.map_threshold_ > 0:
            raise CommandError(
                f"--map-format png16: the map threshold is {detector.map_threshold_:g}, and the "
                "scale is in multiples of it; take npy"
            )
        self.folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, name):
        """Where the map of an image is."""
        return self.folder / f"{name}{SUFFIXES[self.kind]}"

    def save(self, name, image, anomaly_map, score):
        """Write a map; the error if that fails, which is no reason to leave the others."""
        path = self.path_of(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                self._write(file, name, image, anomaly_map, score)
        except (OSError, ValueError) as error:
            return f"its map cannot be written ({text_of(error)})"
        return None

    def _write(self, file, name, image, anomaly_map, score):
        if self.kind == "npy":
            np.save(file, np.asarray(anomaly_map, np.float32))
        elif self.kind == "png16":
            save_png16(file, anomaly_map, self.detector.map_threshold_)
        else:
            save_picture(file, image, anomaly_map, score, self.detector, title=name)


def save_png16(file, anomaly_map, map_threshold):
    """Write a map as grey values of 16 bits, 0 to 4 map thresholds; the scale is in its text."""
    from PIL import Image, PngImagePlugin

    values = np.clip(anomaly_map / (TOP * map_threshold), 0, 1)
    text = PngImagePlugin.PngInfo()
    scale = {"map_threshold": float(map_threshold), "white": float(TOP * map_threshold)}
    text.add_text("skanomaly", json.dumps(scale))
    Image.fromarray(np.rint(65535 * values).astype(np.uint16)).save(file, "PNG", pnginfo=text)


def save_picture(file, image, anomaly_map, score, detector, title):
    """Draw an image, its map over it, and what the detector says of it.

    Parameters
    ----------
    file : binary file
    image : path or ndarray
        The image that the map is of.
    anomaly_map : ndarray, shape (H, W)
    score : float
        As of detectors, higher = more normal.
    detector : detector
        Its thresholds are marked.
    title : str
        In front of the verdict.
    """
    from .._unwrap import value_range_of
    from ..plotting import finding_picture

    finding_picture(
        image,
        anomaly_map,
        score=score,
        offset=detector.offset_,
        map_threshold=detector.map_threshold_,
        title=title,
        value_range=value_range_of(detector),
    ).save(file, "PNG")

"""One image and what was found in it, as a picture that explains itself. Without matplotlib."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import find_contours

from .._validation import check_masks_and_maps
from ..images import check_images
from ._palette import BLUE, GREEN, RED, colours, opacity, positions
from ._shown import as_shown
from ._verdicts import verdict_text

SMALLEST, LARGEST = 256, 1024  # pixels of the longer side of a panel
MARGIN, BAR = 12, 16
INK, PAPER = "#1b1f24", "#ffffff"


def finding_picture(
    image,
    anomaly_map,
    *,
    score,
    offset,
    map_threshold,
    mask=None,
    title=None,
    value_range=None,
):
    """Draw an image beside itself with its map laid over, and what the detector says of it.

    The verdict and the score, as a multiple of the threshold, stand on top. An outline is
    drawn around what exceeds the map's threshold. The colour scale is the same for all
    pictures of a detector: from 0 to twice the threshold, which lies in its middle and is
    marked; what is below it is pale, what is above it red.

    Parameters
    ----------
    image : array, shape (H, W) or (H, W, C), PIL image or path
        As a detector takes it. Of 2, or more than 3, channels the mean is shown, in grey.
    anomaly_map : array of float, shape (H, W)
        Higher = more anomalous, as of `transform`.
    score : float
        As of `score_samples`, higher = more normal.
    offset : float
        The detector's ``offset_``: scores below are anomalous.
    map_threshold : float
        The detector's ``map_threshold_``.
    mask : array of bool, shape (H, W), or None, default=None
        True where the defect is known to be; it is outlined in blue.
    title : str or None, default=None
        In front of the verdict, such as the image's name.
    value_range : (float, float) or None, default=None
        Values that mean black and white. None: 0 to the largest value of an unsigned 8-
        or 16-bit dtype, 0 to 1 for floats.

    Returns
    -------
    PIL.Image.Image
        RGB. Small images are enlarged and large ones reduced, so that a panel's longer side
        has 256 to 1024 pixels; reduced maps keep their maxima, so that no spot is lost.

    Raises
    ------
    ValueError
        If the image cannot be shown, the map is of another size or not finite, or a number
        is not finite.

    See Also
    --------
    AnomalyMapDisplay : Several images in a figure of matplotlib's.
    skanomaly.find_regions : Where the outlined regions are, as a table.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.plotting import finding_picture
    >>> image, anomaly_map = np.full((64, 96), 0.5), np.zeros((64, 96))
    >>> anomaly_map[20:30, 40:60] = 3.0
    >>> picture = finding_picture(
    ...     image, anomaly_map, score=-3.0, offset=-1.0, map_threshold=1.0
    ... )
    >>> picture.mode
    'RGB'
    """
    for name, value in (("score", score), ("offset", offset), ("map_threshold", map_threshold)):
        if not np.isfinite(value):
            raise ValueError(f"{name} is {value}, expected a finite number")
    shown = as_shown(check_images([image]), 0, value_range)
    if np.shape(anomaly_map) != shown.shape[:2]:
        raise ValueError(
            f"the map has shape {np.shape(anomaly_map)} and the image {shown.shape}, expected the "
            "same height and width"
        )
    masks = [np.zeros(shown.shape[:2], bool) if mask is None else mask]
    (mask,), (anomaly_map,) = check_masks_and_maps(masks, [anomaly_map])
    panel = _Panel(shown, anomaly_map, mask, map_threshold)
    text = verdict_text(score, offset)
    return _composed(panel, text if title is None else f"{title}: {text}", score < offset)


def finding_sheet(pictures, n_columns=2):
    """Put pictures of `finding_picture` onto one sheet, row by row.

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
        At least one; they may differ in size.
    n_columns : int, default=2

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    ValueError
        If there are no pictures or no columns.

    Examples
    --------
    >>> from PIL import Image
    >>> from skanomaly.plotting import finding_sheet
    >>> finding_sheet([Image.new("RGB", (30, 20))] * 3).size
    (60, 40)
    """
    if not len(pictures) or n_columns < 1:
        raise ValueError(
            f"there are {len(pictures)} pictures and {n_columns} columns, expected at least one"
        )
    n_columns = min(n_columns, len(pictures))
    rows = [pictures[i : i + n_columns] for i in range(0, len(pictures), n_columns)]
    width = max(picture.width for picture in pictures)
    heights = [max(picture.height for picture in row) for row in rows]
    sheet = Image.new("RGB", (n_columns * width, sum(heights)), PAPER)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet.paste(picture, (j * width, sum(heights[:i])))
    return sheet


class _Panel:
    """An image in the size in which it is drawn, and its map on it."""

    def __init__(self, image, anomaly_map, mask, threshold):
        longer = max(image.shape[:2])
        self.scale = np.clip(longer, SMALLEST, LARGEST) / longer
        self.size = tuple(max(1, round(side * self.scale)) for side in image.shape[1::-1])
        rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        self.image = _resized(_as_bytes(rgb), self.size, Image.Resampling.LANCZOS)
        self.threshold = threshold
        self.limits = scale_limits(threshold)
        self.mask = mask
        self.map = anomaly_map

    def overlay(self):
        """The image with the map over it, what exceeds the threshold outlined."""
        step = max(1, int(1 / self.scale))
        seen = _pooled_maximum(self.map, step)
        position = positions(seen, self.threshold, *self.limits)
        resample = Image.Resampling.NEAREST
        paint = _resized(_as_bytes(colours(position)), self.size, resample)
        alpha = _resized(_as_bytes(opacity(position)), self.size, resample)
        picture = Image.composite(paint, self.image, alpha)
        draw = ImageDraw.Draw(picture)
        width = max(2, round(max(self.size) / 200))
        for line in self._borders(seen > self.threshold):
            draw.line(line, fill=INK, width=width + 2, joint="curve")
            draw.line(line, fill=PAPER, width=width, joint="curve")
        for line in self._borders(_pooled_maximum(self.mask, step)):
            draw.line(line, fill=BLUE, width=width, joint="curve")
        return picture

    def _borders(self, marked):
        """Closed lines around what is marked, in pixels of the drawn size."""
        ratio = self.size[0] / marked.shape[1], self.size[1] / marked.shape[0]
        for line in find_contours(np.pad(marked, 1).astype(np.float32), 0.5):
            yield [((x - 0.5) * ratio[0], (y - 0.5) * ratio[1]) for y, x in line]


def scale_limits(threshold):
    """Bottom and top of a scale with the threshold in its middle."""
    if threshold > 0:
        return 0.0, 2.0 * threshold
    width = abs(threshold) or 1.0
    return threshold - width, threshold + width


def _composed(panel, text, is_flagged):
    width, height = panel.size
    font = ImageFont.load_default(max(14, round(max(panel.size) / 24)))
    small = ImageFont.load_default(max(11, round(max(panel.size) / 36)))
    labels = _scale_labels(panel)
    top = _text_height(font) + 2 * MARGIN
    beside = BAR + max(round(small.getlength(label)) for _, label in labels) + MARGIN
    total = 2 * width + 3 * MARGIN + beside + MARGIN, top + height + MARGIN
    total = max(total[0], round(font.getlength(text)) + 2 * MARGIN), total[1]
    page = Image.new("RGB", total, PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), text, fill=RED if is_flagged else GREEN, font=font)
    page.paste(panel.image, (MARGIN, top))
    page.paste(panel.overlay(), (2 * MARGIN + width, top))
    _draw_scale(page, (3 * MARGIN + 2 * width, top), height, labels, small)
    return page


def _scale_labels(panel):
    """(position on the scale, text) of what stands beside it."""
    bottom, top = panel.limits
    if panel.threshold > 0:
        return (1, "2 x"), (0.5, "threshold"), (0, "0")
    return (1, f"{top:.3g}"), (0.5, "threshold"), (0, f"{bottom:.3g}")


def _draw_scale(page, corner, height, labels, font):
    left, top = corner
    ramp = colours(np.linspace(1, 0, height)[:, None])
    page.paste(Image.fromarray(_as_bytes(ramp)).resize((BAR, height)), corner)
    draw = ImageDraw.Draw(page)
    draw.rectangle((left, top, left + BAR, top + height - 1), outline="#8a9099")
    for position, label in labels:
        y = top + (1 - position) * (height - 1)
        tall = _text_height(font)
        draw.text(
            (left + BAR + 5, np.clip(y - tall / 2, top, top + height - tall)),
            label,
            fill=INK,
            font=font,
        )
    middle = top + (height - 1) / 2
    draw.line((left - 3, middle, left + BAR + 3, middle), fill=INK, width=2)


def _text_height(font):
    return font.getbbox("Ag|")[3]


def _pooled_maximum(values, step):
    """The maxima of squares of `step` pixels, so that no spot is lost by reducing."""
    if step == 1:
        return values
    height, width = values.shape
    padded = np.pad(values, ((0, -height % step), (0, -width % step)), mode="edge")
    return padded.reshape(len(padded) // step, step, -1, step).max(axis=(1, 3))


def _as_bytes(values):
    return np.round(np.asarray(values) * 255).astype(np.uint8)


def _resized(pixels, size, resample):
    return Image.fromarray(pixels).resize(size, resample)

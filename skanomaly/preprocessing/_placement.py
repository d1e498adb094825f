"""Where the pixels of a transformed image lie in the one that it was made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Placement(NamedTuple):
    """An affine map from an image's pixels back to those of the image that it was made of."""

    matrix: np.ndarray  #: (3, 3), takes (row, column, 1) of the new image to the old one's
    old_size: tuple  #: height and width
    new_size: tuple  #: height and width

    @classmethod
    def unmoved(cls, size):
        """Of an image whose pixels stay where they are."""
        return cls(np.eye(3), tuple(size), tuple(size))

    @classmethod
    def cut(cls, size, box):
        """Of what lies in a box (top, left, bottom, right), the last two not included."""
        top, left, bottom, right = box
        return cls(moved_by(top, left), tuple(size), (bottom - top, right - left))

    @classmethod
    def resized(cls, size, new_size):
        """Of an image in another size; pixel centres are half-integers."""
        return cls(scaled_by(*(old / new for old, new in zip(size, new_size))), size, new_size)

    @classmethod
    def unknown(cls, size, new_size):
        """Of an image that was made in a way which does not say where pixels went."""
        return cls(np.full((3, 3), np.nan), size, new_size)

    def is_known(self):
        """Whether pixels can be brought back."""
        return not np.isnan(self.matrix).any()

    def then(self, later):
        """Of what was made of the new image in turn."""
        return Placement(self.matrix @ later.matrix, self.old_size, later.new_size)

    def is_unmoved(self):
        """Whether each pixel stays where it is."""
        return self.old_size == self.new_size and np.array_equal(self.matrix, np.eye(3))

    def on_old(self, anomaly_map):
        """A map of the new image on the old one's pixels.

        Parameters
        ----------
        anomaly_map : array, shape new_size, float32

        Returns
        -------
        array, shape old_size, float32
            Bilinear; where nothing of the new image lies, its smallest value.
        """
        if self.is_unmoved():
            return anomaly_map
        back = np.linalg.inv(self.matrix)
        found = np.full(self.old_size, anomaly_map.min(), np.float32)
        within = (_window(size, new) for size, new in zip(self.old_size, self._corners()))
        rows, columns = within
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return found
        window = back @ moved_by(rows.start, columns.start)
        size = rows.stop - rows.start, columns.stop - columns.start
        values = _sampled(anomaly_map, window, size, order=1)
        covered = _lies_within(window, size, self.new_size)
        np.copyto(found[rows, columns], values, where=covered)
        return found

    def on_new(self, region):
        """A region of the old image, bool, on the new one's pixels: where their centres lie."""
        if self.is_unmoved():
            return region
        return _sampled(region.astype(np.uint8), self.matrix, self.new_size, order=0).astype(bool)

    def sampled(self, image):
        """The new image from the old one, (H, W, C): bilinear, its border's values beyond it."""
        new = np.empty((*self.new_size, image.shape[2]), image.dtype)
        for i in range(image.shape[2]):
            channel = image[..., i].astype(np.float32)
            values = _sampled(channel, self.matrix, self.new_size, order=1, mode="nearest")
            new[..., i] = values if image.dtype.kind == "f" else np.rint(values)
        return new

    def covered(self):
        """Which pixels of the new image lie in the old one, or None if all do."""
        corners = self.matrix @ _corners_of(self.new_size)
        highest = np.array(self.old_size)[:, None] - 0.5
        if (corners[:2] >= -0.5 - 1e-9).all() and (corners[:2] <= highest + 1e-9).all():
            return None
        return _lies_within(self.matrix, self.new_size, self.old_size)

    def _corners(self):
        """Least and greatest row, and column, of the old image that the new one reaches."""
        corners = self.matrix @ _corners_of(self.new_size)
        return [(axis.min(), axis.max()) for axis in corners[:2]]


def moved_by(rows, columns):
    """The matrix that adds to rows and columns."""
    matrix = np.eye(3)
    matrix[:2, 2] = rows, columns
    return matrix


def scaled_by(rows, columns):
    """The matrix from pixels to pixels of another size, which are so many old ones high and wide.

    Pixel centres are half-integers: the outer edges of the first pixels meet.
    """
    matrix = np.diag([rows, columns, 1.0])
    matrix[:2, 2] = (rows - 1) / 2, (columns - 1) / 2
    return matrix


def _corners_of(size):
    height, width = size[0] - 0.5, size[1] - 0.5
    return np.array([[-0.5, -0.5, height, height], [-0.5, width, -0.5, width], [1, 1, 1, 1]])


def _window(size, reach):
    return slice(max(0, int(np.floor(reach[0]))), min(size, int(np.ceil(reach[1])) + 1))


def _sampled(values, matrix, size, order, mode="nearest"):
    whole = np.rint(matrix)
    if np.array_equal(matrix[:2, :2], np.eye(2)) and np.allclose(matrix, whole, atol=1e-9):
        top, left = whole[:2, 2].astype(int)
        bottom, right = top + size[0], left + size[1]
        if top >= 0 and left >= 0 and bottom <= values.shape[0] and right <= values.shape[1]:
            return values[top:bottom, left:right]
    return ndimage.affine_transform(
        values, matrix[:2, :2], matrix[:2, 2], output_shape=size, order=order, mode=mode
    )


def _lies_within(matrix, size, other_size):
    """Which pixels of an image have their place in another one's, to which a matrix takes them."""
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    found = np.ones(size, bool)
    for (by_row, by_column, offset), n in zip(matrix[:2], other_size):
        place = by_row * rows + (by_column * columns + offset)
        found &= (place >= -0.5 - 1e-9) & (place <= n - 0.5 + 1e-9)
    return found

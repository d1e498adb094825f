"""What the detectors share that show what their network gives back."""

from __future__ import annotations


class Reconstructs:
    """Has ``reconstruct``; a method implements ``_version(pixels)``, what is made of a batch."""

    def reconstruct(self, X):
        """The images as the network gives them back.

        Parameters
        ----------
        X : batch of images
            As for `fit`.

        Returns
        -------
        ndarray, shape (n, H, W, C), or (n, H, W) for one channel, float32
            In [0, 1], of each image's own size; of patches that overlap, the mean. If the
            images differ in size, an object array (n,) of such images.
        """
        return self._made_of(X, self._version)

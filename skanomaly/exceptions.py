"""The project's own errors. Each says what was found, where, and what to do."""


class InvalidImageError(ValueError):
    """An image, or the batch that holds it, cannot be used.

    Attributes
    ----------
    index : int or None
        Position of the image in the batch the caller passed; None where the
        batch as a whole is at fault.
    path : str or None
        File the image came from, if it came from one.
    """

    def __init__(self, reason, *, index=None, path=None):
        self.reason, self.index, self.path = reason, index, path
        super().__init__(reason, index, path)

    def __str__(self):
        where = "" if self.index is None else f"image {self.index}"
        if self.path is not None:
            where = f"{where} ({self.path})" if where else str(self.path)
        return f"{where}: {self.reason}" if where else self.reason

    def __reduce__(self):  # keyword-only arguments are lost by the default
        return _invalid_image_error, (self.reason, self.index, self.path)


def _invalid_image_error(reason, index, path):
    return InvalidImageError(reason, index=index, path=path)


class DiskSpaceError(OSError):
    """The disk has no room for what does not fit into memory."""


class BackboneError(ValueError):
    """A backbone cannot be built, run by the chosen engine, or given its weights."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a finite number."""


class ModelFileError(ValueError):
    """A file is no model, is damaged, or asks for what may not be built from a file."""


class ExportError(ValueError):
    """A detector cannot be exported, or the file would not do what the detector does."""


class NonFiniteMapError(InvalidImageError):
    """A detector gives a map or a score that is NaN or infinite."""


class ThresholdWarning(UserWarning):
    """The images that a threshold was set from cannot promise what was asked."""


class TransformWarning(UserWarning):
    """An image cannot be transformed as it was to be, and stays as it is."""


class SelectionWarning(UserWarning):
    """What a search has found is no ground to choose a detector by."""

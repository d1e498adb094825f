"""Splitters that train on normal images only."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import BaseCrossValidator, GroupKFold, KFold, ShuffleSplit

from .._sklearn import GroupsConsumerMixin
from .._validation import image_labels


class _NormalSplitter(BaseCrossValidator):
    """Splits the normal images as `_splitter()` does, and tests on all anomalous ones too."""

    def split(self, X, y=None, groups=None):
        """Generate indices of training and test images.

        Parameters
        ----------
        X : sequence of length n
            The images or their features; only its length is looked at.
        y : array-like of int, shape (n,), or array of bool, shape (n, H, W), or \
                sequence of (H, W)
            Labels, +1 normal and -1 anomalous, or masks, where an image is
            anomalous if any pixel is True.
        groups : array-like, shape (n,), default=None
            The production lot of each image; for `NormalGroupKFold` only.

        Yields
        ------
        train : ndarray of int
            Normal images, sorted.
        test : ndarray of int
            The other normal images and all anomalous ones, sorted.

        Raises
        ------
        ValueError
            If there are not enough normal images, or lots of them, to train on
            some and hold out others.
        """
        is_normal = image_labels(y, n=len(X)) == 1
        normal, anomalous = np.flatnonzero(is_normal), np.flatnonzero(~is_normal)
        if len(normal) == 0:
            raise ValueError("y holds no normal image (+1, or an empty mask) to train on")
        lots = self._lots(groups, len(X), normal)
        splitter = self._splitter()
        try:
            folds = list(splitter.split(normal, groups=lots))
        except ValueError as error:
            raise ValueError(
                f"the {len(normal)} normal images cannot be split by {self}: {error}"
            ) from error
        for train, test in folds:
            yield normal[np.sort(train)], np.sort(np.append(normal[test], anomalous))

    def get_n_splits(self, X=None, y=None, groups=None):
        """The number of splits.

        Parameters
        ----------
        X, y, groups : object
            Ignored, as in scikit-learn's splitters.

        Returns
        -------
        int
        """
        return self.n_splits

    def _lots(self, groups, n_images, normal):
        if groups is not None:
            name = type(self).__name__
            warnings.warn(f"{name} ignores groups; NormalGroupKFold keeps them apart", stacklevel=3)


class NormalKFold(_NormalSplitter):
    """K-fold cross-validation that trains on normal images only.

    The normal images are split into `n_splits` folds. Each is held out once and
    tested on together with all anomalous images; the other normal images are
    trained on.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the normal images before they are split.
    random_state : int, RandomState or None, default=None
        For `shuffle`.

    See Also
    --------
    NormalGroupKFold : Keeps production lots together.
    NormalShuffleSplit : Random splits of any size.

    Notes
    -----
    `GridSearchCV` with ``refit=True`` fits the best parameters on everything it
    was given, anomalous images included. Pass ``refit=False`` and fit on the
    normal images instead.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.model_selection import NormalKFold
    >>> y = np.array([1, 1, -1, 1, 1, -1])
    >>> for train, test in NormalKFold(n_splits=2).split(np.zeros(6), y):
    ...     print(train, test)
    [3 4] [0 1 2 5]
    [0 1] [2 3 4 5]
    """

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def _splitter(self):
        return KFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)


class NormalShuffleSplit(_NormalSplitter):
    """Random splits that train on normal images only.

    Each split holds out a random share of the normal images and tests on them
    together with all anomalous images.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_size : float or int, default=0.2
        The normal images that are held out: a share of them, or how many.
    random_state : int, RandomState or None, default=None

    See Also
    --------
    NormalKFold : Holds out each normal image once; also on `GridSearchCV`.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.model_selection import NormalShuffleSplit
    >>> y = np.array([1, 1, -1, 1, 1, -1])
    >>> splitter = NormalShuffleSplit(n_splits=2, test_size=1, random_state=0)
    >>> for train, test in splitter.split(np.zeros(6), y):
    ...     print(train, test)
    [0 1 4] [2 3 5]
    [1 3 4] [0 2 5]
    """

    def __init__(self, n_splits=10, *, test_size=0.2, random_state=None):
        self.n_splits = n_splits
        self.test_size = test_size
        self.random_state = random_state

    def _splitter(self):
        return ShuffleSplit(self.n_splits, test_size=self.test_size, random_state=self.random_state)


class NormalGroupKFold(GroupsConsumerMixin, _NormalSplitter):
    """K-fold cross-validation on normal images that keeps production lots together.

    As `NormalKFold`, but the normal images of one lot are either all trained on
    or all held out, so that a score tells of lots that were never seen.
    Anomalous images are in every test fold, whatever their lot.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2 and at most the number of lots with normal
        images.
    shuffle : bool, default=False
        Whether to deal out the lots at random, as many to each fold; else the
        folds are balanced by the number of images.
    random_state : int, RandomState or None, default=None
        For `shuffle`.

    See Also
    --------
    NormalKFold : For images that are independent; also on `GridSearchCV`.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.model_selection import NormalGroupKFold
    >>> y = np.array([1, 1, -1, 1, 1, 1])
    >>> lots = np.array(["a", "b", "b", "a", "b", "b"])
    >>> for train, test in NormalGroupKFold(n_splits=2).split(np.zeros(6), y, lots):
    ...     print(train, test)
    [0 3] [1 2 4 5]
    [1 4 5] [0 2 3]
    """

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def _splitter(self):
        return GroupKFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)

    def _lots(self, groups, n_images, normal):
        if groups is None:
            raise ValueError("groups is None, expected the production lot of each image")
        groups = np.asarray(groups)
        if groups.shape != (n_images,):
            raise ValueError(
                f"groups has shape {groups.shape}, expected one lot for each of the "
                f"{n_images} images"
            )
        return groups[normal]

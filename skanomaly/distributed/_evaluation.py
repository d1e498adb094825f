"""Pixel metrics of more images than one machine looks at."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from .._scoring import batch_size_of
from .._unwrap import detect
from ..exceptions import InvalidImageError
from ..images import taken
from ..metrics import MapMetrics
from ._inputs import as_files, blocks, check_positive, loaded
from ._workers import Workers


def evaluate_files(detector, files, masks, client, *, chunk_size=1000, retries=3):
    """Scores and pixel metrics of image files, whose maps never leave the workers.

    Parameters
    ----------
    detector : detector, or path
        As of `score_files`.
    files : ImageFiles, or sequence of paths or addresses
    masks : sequence of ndarray of bool, each (H, W)
        True where a defect is; lazy ones, as of `load_mvtec_ad`, are read by the workers.
    client : distributed.Client
    chunk_size : int, default=1000
        Images that one task looks at.
    retries : int, default=3
        How often a chunk is tried again when its task fails.

    Returns
    -------
    Bunch
        ``scores`` (n,), as of `score_samples`, ``labels`` (n,), and ``metrics``, a
        `MapMetrics` that has seen all maps.

    Raises
    ------
    ValueError
        If there are not as many masks as files.
    InvalidImageError
        If a file cannot be read.
    """
    detector, files = loaded(detector), as_files(files)
    check_positive(chunk_size=chunk_size)
    if len(masks) != len(files):
        raise ValueError(f"there are {len(masks)} masks for {len(files)} files")
    parts = blocks(len(files), chunk_size)
    chosen = (np.asarray(part) for part in parts)
    tasks = enumerate((files[i], taken(masks, i), int(i[0])) for i in chosen)
    found, metrics, waiting, n_merged = {}, MapMetrics(), {}, 0
    with Workers(client, detector, retries) as workers:
        for i, (scores, labels, of_chunk) in workers.results(_measure, tasks):
            found[i], waiting[i] = (scores, labels), of_chunk
            while n_merged in waiting:  # in order, so that equal runs give equal bits
                metrics.merge(waiting.pop(n_merged))
                n_merged += 1
    scores, labels = (np.concatenate([found[i][k] for i in sorted(found)]) for k in (0, 1))
    return Bunch(scores=scores, labels=labels, metrics=metrics)


def _measure(detector, files, masks, first):
    """Scores and labels of files, and the metrics of their maps."""
    metrics, scores, labels, size = MapMetrics(), [], [], batch_size_of(detector)
    for start in range(0, len(files), size):
        batch = np.arange(start, min(start + size, len(files)))
        try:
            found = detect(detector, files[batch], with_maps=True)
        except InvalidImageError as error:
            index = None if error.index is None else int(first + start + error.index)
            raise InvalidImageError(error.reason, index=index, path=error.path) from None
        metrics.update(taken(masks, batch), found.maps)
        scores.append(found.scores)
        labels.append(found.labels)
    return np.concatenate(scores), np.concatenate(labels), metrics

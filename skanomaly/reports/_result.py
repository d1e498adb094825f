"""What `inspection_report` gives back."""

from __future__ import annotations

import hashlib
import html
import json
from collections import Counter

import numpy as np

from .._atomic import replaced
from ._page import page_parts, printable


class InspectionReport:
    """What a detector found in a set of images, and the page that shows it.

    Made by `inspection_report`. All images are in the order in which they were given.

    Attributes
    ----------
    title, detector_name : str
    id : str
        The same for equal images, names, model and results: decisions that were made on
        one copy of the page are found again on another.
    names : ndarray of str objects, shape (n,)
    scores : ndarray, shape (n,), float64
        As of ``score_samples``, higher = more normal.
    labels : ndarray, shape (n,), int64
        +1 normal, -1 anomalous, as of ``predict``.
    p_values : ndarray, shape (n,), float64
        As of ``p_values``; ties are broken at random with seed 0.
    regions : Bunch
        As of `skanomaly.find_regions` at the detector's ``map_threshold_``.
    truth : ndarray of int, shape (n,), or None
        The labels that are known.
    defect_types, groups : ndarray of str objects, shape (n,), or None
    evaluation : EvaluationReport or None
        Where the truth is known.
    offset, map_threshold : float
        The detector's thresholds, of scores and of maps.
    n_validation : int
        Normal images that set them.
    settings, versions : dict of str
        Of the detector's parameters, and of the libraries.
    model_sha256 : str or None
        Of the file that `skanomaly.save` writes; None if it cannot be saved.
    why_no_model_sha256 : str or None
        The reason, if so.
    data_sha256 : str
        Of the pixels of all images, in order.
    pictures : list of Bunch
        What the page shows of each image: ``thumbnail`` (JPEG), ``map`` and ``mask`` (PNG, the
        latter or None), ``size`` of the image, ``low`` and ``high`` of its map.
    """

    def __init__(
        self,
        *,
        title,
        detector_name,
        names,
        scores,
        labels,
        p_values,
        regions,
        truth,
        defect_types,
        groups,
        evaluation,
        offset,
        map_threshold,
        n_validation,
        settings,
        versions,
        model_sha256,
        why_no_model_sha256,
        data_sha256,
        pictures,
    ):
        n_flagged = int(np.count_nonzero(labels == -1))
        self.title = f"Inspection by {detector_name}" if title is None else title
        self.detector_name = detector_name
        self.names, self.scores, self.labels, self.p_values = names, scores, labels, p_values
        self.regions, self.truth = regions, truth
        self.defect_types, self.groups = defect_types, groups
        self.evaluation = evaluation
        self.offset, self.map_threshold = offset, map_threshold
        self.n_validation, self.n_flagged = n_validation, n_flagged
        self.settings, self.versions = settings, versions
        self.model_sha256, self.data_sha256 = model_sha256, data_sha256
        self.why_no_model_sha256 = why_no_model_sha256
        self.pictures = pictures
        self.id = self._digest()

    def save(self, path):
        """Write the page: one HTML file that needs no other, whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If it cannot be written; a file that was there stays as it was.
        """
        with replaced(path) as file:
            self.write(file)

    def write(self, file):
        """Write the page to a binary file.

        Parameters
        ----------
        file : binary file
        """
        for part in page_parts(self):
            file.write(part)

    def _digest(self):
        """What says which report it is, in 16 digits."""
        numbers = (self.offset, self.map_threshold, *self.scores.tolist())
        content = [
            self.data_sha256,
            self.model_sha256,
            self.names.tolist(),
            list(map(repr, numbers)),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _facts(self):
        """(what, how much) in words."""
        yield "images", str(len(self.names))
        yield "flagged", f"{self.n_flagged} ({self.n_flagged / len(self.names):.1%})"
        if self.truth is not None:
            flagged = Counter(self.truth[self.labels == -1].tolist())
            n = Counter(self.truth.tolist())
            yield "false alarms", f"{flagged[1]} of {n[1]} good images"
            yield "missed", f"{n[-1] - flagged[-1]} of {n[-1]} defective images"
        yield "regions", str(len(self.regions.image))

    def __repr__(self):
        return f"InspectionReport({', '.join(f'{what}: {much}' for what, much in self._facts())})"

    def _repr_html_(self):
        lines = "".join(
            f'<tr><th style="text-align: left">{what}</th><td>{much}</td></tr>'
            for what, much in self._facts()
        )
        title = html.escape(printable(self.title))
        return f"<table><caption>{title}</caption>{lines}</table><p>save(path) writes the page</p>"

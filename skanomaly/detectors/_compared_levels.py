"""What the detectors share that compare two pyramids of features level by level."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .._parameters import parameter
from .._sklearn import StrOptions
from ..maps import normalized_residual
from ._feature_detector import CachedFeatureDetector


class ComparedLevels(CachedFeatureDetector):
    """Base of those whose map is how a student's features differ from the pretrained ones.

    Parameters
    ----------
    level_reduction : {"product", "sum"}
        How the levels' residuals, brought to one size, become one map. A "product" is high
        where all levels differ.
    """

    level_reduction: str = parameter("product", StrOptions({"product", "sum"}), affects="scores")

    def _compared(self, f, f_student):
        """Maps of pretrained features and a student's, levels of (n, c_k, h_k, w_k)."""
        residuals = [normalized_residual(a, b) for a, b in zip(f, f_student, strict=True)]
        if self.level_reduction == "sum":
            return residuals
        size = [n * self.encoder_.strides[0] for n in residuals[0].shape[1:]]
        of_size = [F.interpolate(phi[:, None], size, mode="bilinear")[:, 0] for phi in residuals]
        return torch.stack(of_size).prod(dim=0)

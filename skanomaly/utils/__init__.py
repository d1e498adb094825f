"""For those who write detectors: which there are, and checks that they keep the contract."""

from ._discovery import all_detectors, small_detector

__all__ = ["all_detectors", "small_detector"]

"""One file a method, named after its class; what a family shares is in files with an underscore."""

from ._feature_detector import CachedFeatureDetector  # for what compose/ puts around estimators

__all__ = ["CachedFeatureDetector"]

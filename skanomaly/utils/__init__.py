"""Tools for those who write or deploy detectors."""

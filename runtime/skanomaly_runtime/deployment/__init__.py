"""Exported detectors at work."""

"""Detectors at work: files without pickle, ONNX files and what serves them."""

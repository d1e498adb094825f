"""What kind of model a file holds, by its first bytes, whatever its name is."""

from __future__ import annotations

MAGIC = b"skanomaly model\n"
# Of pickles from protocol 2 on, as they are and as joblib compresses them: gzip, zlib, bzip2,
# xz, lzma, lz4.
_ZLIB = b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"
_PICKLES = b"\x80", b"\x1f\x8b", *_ZLIB, b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x04\x22\x4d\x18"
_ONNX = b"\x08"  # a protocol buffer whose first field is a number, ONNX's version


def kind_of(path):
    """The kind of model that a file seems to hold; what is in it is not checked.

    Parameters
    ----------
    path : str or path-like
        Of a regular file.

    Returns
    -------
    {"skanomaly", "onnx", "pickle"} or None
    """
    with open(path, "rb") as file:
        start = file.read(len(MAGIC))
    if start == MAGIC:
        return "skanomaly"
    if start.startswith(_PICKLES):
        return "pickle"
    return "onnx" if start.startswith(_ONNX) else None

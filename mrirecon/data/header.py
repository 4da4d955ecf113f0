"""The ISMRMRD header of a fastMRI file: how the measured lines lie on the grid, and the size of the image.

H is the readout (ISMRMRD x), W the phase encoding (ISMRMRD y). Lines outside [padding_left, padding_right) were never
measured; the scanner filled them with zeros.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from mrirecon.errors import InputError

_NAMESPACE = "http://www.ismrm.org/ISMRMRD"


@dataclass(frozen=True)
class Geometry:
    """Sizes are (H, W), in samples.

    encoded: the acquired grid. recon: the image the scanner would show (without readout oversampling).
    padding_left, padding_right: measured columns are ``padding_left <= column < padding_right``.
    """

    encoded: tuple[int, int]
    recon: tuple[int, int]
    padding_left: int
    padding_right: int

    def crop(self, shape: tuple[int, int], target_shape: tuple[int, int] | None = None) -> tuple[int, int]:
        """The part of an image of ``shape`` (H, W) that is scored: the target's size, or else the recon size.

        An image narrower than that is cropped to a square of its own width, fastMRI's rule for its FLAIR files of 203
        columns.
        """
        height, width = target_shape or self.recon
        if shape[1] < width:
            height = width = shape[1]
        return min(height, shape[0]), width


def parse_header(header: bytes | str, width: int) -> Geometry:
    """Geometry from the XML of ``ismrmrd_header``; ``width``: columns of the k-space, which bound the padding.

    Raises InputError, without a file name, where the header is not ISMRMRD or declares a document type: a DOCTYPE can
    define entities that expand without bound, and no scanner writes one.
    """
    if not isinstance(header, bytes | str):
        raise InputError(f"ismrmrd_header is {type(header).__name__}; expected the text of an ISMRMRD header")
    try:
        text = header.decode("utf-8") if isinstance(header, bytes) else header
    except UnicodeDecodeError as error:
        raise InputError(f"ismrmrd_header is not UTF-8 text ({error}); expected ISMRMRD XML") from error
    if "<!DOCTYPE" in text:
        raise InputError("ismrmrd_header declares a DOCTYPE; expected plain ISMRMRD XML")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"ismrmrd_header is not XML ({error}); expected ISMRMRD XML") from error
    encoded = _size(root, "encodedSpace")
    recon = _size(root, "reconSpace")
    limits = "encodingLimits/kspace_encoding_step_1/"
    center, maximum = _number(root, limits + "center"), _number(root, limits + "maximum")
    if center is None or maximum is None:
        return Geometry(encoded, recon, 0, width)
    left = encoded[1] // 2 - center
    if not (left < width and left + maximum + 1 > 0 and maximum >= 0):
        raise InputError(
            f"ismrmrd_header: lines 0 to {maximum} about line {center} lie outside the {width} columns of kspace; "
            "expected encodingLimits within them"
        )
    # Clamped, because a negative bound would count from the other end of the grid.
    return Geometry(encoded, recon, min(max(left, 0), width), min(max(left + maximum + 1, 0), width))


def ismrmrd_header(encoded: tuple[int, int], recon: tuple[int, int], lines: int | None = None) -> str:
    """A minimal header for k-space on the grid ``encoded`` (H, W) and images of ``recon`` (h, w).

    lines: measured columns, in the middle of the grid; None: all of them. The rest is padding.
    """
    lines = encoded[1] if lines is None else lines
    center = lines // 2
    sizes = "".join(
        f"<{name}><matrixSize><x>{h}</x><y>{w}</y><z>1</z></matrixSize>"
        f"<fieldOfView_mm><x>{h}</x><y>{w}</y><z>1</z></fieldOfView_mm></{name}>"
        for name, (h, w) in (("encodedSpace", encoded), ("reconSpace", recon))
    )
    limits = f"<minimum>0</minimum><maximum>{lines - 1}</maximum><center>{center}</center>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?><ismrmrdHeader xmlns="{_NAMESPACE}"><encoding>{sizes}<encodingLimits>'
        f"<kspace_encoding_step_1>{limits}</kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def _number(root: ElementTree.Element, path: str) -> int | None:
    # "{*}" accepts any namespace and none: some writers leave it out.
    found = root.find("/".join("{*}" + name for name in ["encoding", *path.split("/")]))
    if found is None or not found.text:
        return None
    try:
        return int(found.text)
    except ValueError as error:
        raise InputError(f"ismrmrd_header: encoding/{path} is {found.text!r}; expected a whole number") from error


def _size(root: ElementTree.Element, space: str) -> tuple[int, int]:
    x, y = _number(root, f"{space}/matrixSize/x"), _number(root, f"{space}/matrixSize/y")
    if x is None or y is None or x < 1 or y < 1:
        raise InputError(f"ismrmrd_header: encoding/{space}/matrixSize is x={x}, y={y}; expected numbers from 1 up")
    return x, y

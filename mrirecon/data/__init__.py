"""Measured data: fastMRI files, their slices, batches of them, and the sensitivity maps they need.

Only the file layout is re-exported: whoever reads or scores a file should not wait for sigpy or Lightning to load.
"""

from mrirecon.data.fastmri import Volume, list_volumes, read_kspace, read_target, read_volume
from mrirecon.data.header import Geometry, ismrmrd_header
from mrirecon.data.writing import reconstruction_file, write_reconstruction, write_volume

__all__ = [
    "Geometry",
    "Volume",
    "ismrmrd_header",
    "list_volumes",
    "read_kspace",
    "read_target",
    "read_volume",
    "reconstruction_file",
    "write_reconstruction",
    "write_volume",
]

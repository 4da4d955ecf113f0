"""Reconstruct h5 files with a trained network or a classical method."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def reconstruct(
    input: Path,
    output: Path,
    model: Path | None = None,
    method: Literal["zero-filled", "cg-sense", "l1-wavelet"] | None = None,
    strength: float | None = None,
    wavelet: str | None = None,
    mask_type: Literal["random", "equispaced", "equispaced_fraction", "magic", "magic_fraction", "poisson"]
    | None = None,
    accelerations: float | list[float] | None = None,
    center_fractions: float | list[float] | None = None,
    mask_file: Path | None = None,
    crop: float | None = None,
    maps_folder: Path | None = None,
    batch_size: int = 1,
    device: str = "auto",
    overwrite: bool = False,
) -> int:
    """Reconstruct fastMRI h5 files with a trained network or a classical method.

    Files that are already undersampled use the mask they hold. Fully sampled files are undersampled on purpose, with
    --mask_type or --mask_file; the mask follows from the file's name, by fastMRI's rule. A file is left as it is if
    this very run has made it before. Exit code: 0 all done, 1 some files failed, 2 nothing could start.

    Example: mrirecon reconstruct /data/knee/multicoil_test out --model runs/knee

    Args:
        input: an .h5 file, or a folder of them.
        output: folder for the reconstructions, each under the name of its input file.
        model: run folder of `mrirecon fit`, or a checkpoint.
        method: instead of a model, a classical method.
        strength: regularisation of cg-sense and l1-wavelet, for data whose 95th percentile of |A^H y| is 1; 0.001 to
            0.1 is usual, and `mrirecon tune` finds the best.
        wavelet: wavelet of l1-wavelet, such as haar (default: db4).
        mask_type: how fully sampled files are undersampled.
        accelerations: k-space lines per line kept, or several to draw from; 4 unless given.
        center_fractions: part of the lines that is fully sampled in the centre, one for each acceleration; 0.08
            unless given.
        mask_file: a .npy file with a 0/1 mask, (W) or (H, W), instead of --mask_type.
        crop: maps are zero where ESPIRiT's eigenvalue is below this, 0 to 1; for a classical method only, since a
            network takes the calibration it was trained with.
        maps_folder: folder for estimated maps (default: beside the data).
        batch_size: slices reconstructed at once.
        device: cpu, cuda, or auto.
        overwrite: replace existing output files.
    """
    from mrirecon.checkpoint import load
    from mrirecon.commands.files import reconstruct_files
    from mrirecon.commands.options import calibration_from, device_from, sampling_asked
    from mrirecon.data.fastmri import list_volumes
    from mrirecon.data.maps import MapCache
    from mrirecon.errors import InputError
    from mrirecon.reconstruct import Reconstructor, classical, network

    if (model is None) == (method is None):
        raise InputError("name either --model (a run folder or checkpoint) or --method (a classical method)")
    if batch_size < 1:
        raise InputError(f"--batch_size {batch_size}; expected at least 1")
    place = device_from(device)
    sampling = sampling_asked(mask_type, accelerations, center_fractions, mask_file)
    if wavelet is not None and method != "l1-wavelet":
        raise InputError(f"--wavelet {wavelet} belongs to --method l1-wavelet; leave it out")
    if model is not None:
        if crop is not None or strength is not None:
            raise InputError("--crop and --strength belong to classical methods; a network brings its own calibration")
        trained = load(model)
        way, calibration = network(trained, place), trained.calibration
    else:
        assert method is not None
        way, calibration = classical(method, strength, wavelet or "db4"), calibration_from(crop)
    cache = MapCache(maps_folder, calibration)
    reconstructor = Reconstructor(way, sampling, cache, place, batch_size)
    return reconstruct_files(list_volumes(input), output, reconstructor, overwrite)

"""Find the strength at which a classical method is best on given files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def tune(
    input: Path,
    method: Literal["cg-sense", "l1-wavelet"],
    strengths: tuple[float, ...] = (0.0003, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.1),
    wavelet: str = "db4",
    mask_type: Literal[
        "random", "equispaced", "equispaced_fraction", "magic", "magic_fraction", "poisson"
    ] = "equispaced_fraction",
    accelerations: float | list[float] = 4.0,
    center_fractions: float | list[float] = 0.08,
    crop: float | None = None,
    maps_folder: Path | None = None,
    json: Path | None = None,
) -> int:
    """Find the strength at which a classical method has the highest PSNR on fully sampled files.

    Use it on validation files, then give the strength to `mrirecon reconstruct`. Masks follow from the files' names.

    Example: mrirecon tune /data/knee/multicoil_val cg-sense --mask_type random --accelerations 4

    Args:
        input: an .h5 file with a target, or a folder of them.
        method: what is tuned.
        strengths: what is tried.
        wavelet: wavelet of l1-wavelet, such as db4 or haar.
        mask_type: how the files are undersampled.
        accelerations: k-space lines per line kept, or several to draw from.
        center_fractions: part of the lines that is fully sampled in the centre, one for each acceleration.
        crop: maps are zero where ESPIRiT's eigenvalue is below this.
        maps_folder: folder for estimated maps (default: beside the data).
        json: file for the scores of every strength.
    """
    from rich.console import Console
    from rich.table import Table

    from mrirecon.commands.options import calibration_from, check_output, sampling_from
    from mrirecon.data.fastmri import list_volumes, read_volume
    from mrirecon.data.maps import MapCache
    from mrirecon.errors import InputError
    from mrirecon.evaluate import write_json
    from mrirecon.progress import bar
    from mrirecon.reconstruct import classical
    from mrirecon.tune import best, sweep

    check_output(json, ".json")
    if not strengths:
        raise InputError("--strengths is empty; give at least one, such as [0.01]")
    sampling = sampling_from(mask_type, accelerations, center_fractions)
    volumes = [read_volume(path) for path in list_volumes(input)]
    methods = [classical(method, strength, wavelet) for strength in strengths]
    with bar(f"tuning {method}", sum(volume.n_slices for volume in volumes)) as advance:
        scores = sweep(volumes, methods, sampling, MapCache(maps_folder, calibration_from(crop)), advance)
    winner = best(scores)
    view = Table("strength", "NMSE", "PSNR / dB", "SSIM", title=f"{method}, mean over {len(volumes)} volumes")
    for i, (strength, score) in enumerate(zip(strengths, scores, strict=True)):
        style = "bold" if i == winner else None
        view.add_row(f"{strength:g}", f"{score.nmse:.4f}", f"{score.psnr:.2f}", f"{score.ssim:.4f}", style=style)
    Console().print(view)
    if winner in (0, len(strengths) - 1) and len(strengths) > 1:
        print("the best strength is at the end of the range: widen --strengths")
    if json is not None:
        rows = [{"strength": s, **score._asdict()} for s, score in zip(strengths, scores, strict=True)]
        write_json(json, {"method": method, "rows": rows, "best": strengths[winner]})
    print(f"best strength: {strengths[winner]:g}")
    return 0

"""Explain what the convex dual denoisers of a network do with a slice, as figures and as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def explain(
    checkpoint: Path,
    input: Path,
    out: Path = Path("explained"),
    stage: int | None = None,
    slice: int | None = None,
    pixels: list[int] | None = None,
    all_filters: bool = False,
    clusters: int = 12,
    mask_type: Literal["random", "equispaced", "equispaced_fraction", "magic", "magic_fraction", "poisson"]
    | None = None,
    accelerations: float | list[float] | None = None,
    center_fractions: float | list[float] | None = None,
    mask_file: Path | None = None,
    maps_folder: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> int:
    """Explain what the convex dual denoisers of a network do with a slice, as figures and as arrays.

    At every pixel such a denoiser is one linear filter, chosen by the gates that the patch around the pixel opens. For
    each stage, stage_1.png shows the image that the denoiser is given, clusters of pixels that open similar gates with
    their mean filters, the filters at some pixels, and the strongest groups with their frequency responses. stage_1.npz
    holds them as arrays. All this describes what this denoiser does with this image; it says nothing of other images.

    Arrays; part is 0 for real and 1 for imaginary parts, rows and columns are those of the whole image, and the
    identity is part of the filters of pixels and clusters, so that the sum of a filter's taps times the patch is the
    result: image and result (map, H, W), norms (group), active (active), gates and filters (active, k, k), responses
    (active, 64, 64), n_patterns, clusters (part, map, H, W; 255 where a patch is zero), cluster_sizes (cluster),
    cluster_gates (cluster, active; how often a gate is open), cluster_filters (cluster, k, k), cluster_responses
    (cluster, 64, 64), pixels (pixel, 2), pixel_filters (part, map, pixel, k, k), record (JSON: how it was made).

    Example: mrirecon explain runs/convex /data/knee/multicoil_test/file.h5 --pixels 320,180 300,140

    Args:
        checkpoint: run folder of `mrirecon convex-fit` or `fit`, or a checkpoint, of a network with ConvexDual or
            TwoLayerReLU denoisers.
        input: an .h5 file. An undersampled one uses the mask it holds; a fully sampled one is undersampled as by
            `mrirecon reconstruct`.
        out: folder for the files.
        stage: the one stage that is explained, from 1 (default: all).
        slice: number of the slice, from 0 (default: the middle one).
        pixels: row,column of pixels whose filters are kept, from 0, such as 120,80 60,200; the first six are drawn
            (default: six whose filters differ much).
        all_filters: also keep the filters of all pixels, all_filters (part, map, H, W, k, k).
        clusters: how many, 1 to 255; twelve have a colour of their own.
        mask_type: how a fully sampled file is undersampled.
        accelerations: k-space lines per line kept, or several to draw from; 4 unless given.
        center_fractions: part of the lines that is fully sampled in the centre, one for each acceleration; 0.08
            unless given.
        mask_file: a .npy file with a 0/1 mask, (W) or (H, W), instead of --mask_type.
        maps_folder: folder for estimated maps (default: beside the data).
        device: cpu, cuda, or auto.
        overwrite: replace existing files.
    """
    from mrirecon.checkpoint import load
    from mrirecon.commands.explained import Wish, explain_stages
    from mrirecon.commands.files import check_sampling
    from mrirecon.commands.options import device_from, sampling_asked
    from mrirecon.data.fastmri import read_volume
    from mrirecon.data.maps import MapCache
    from mrirecon.errors import InputError
    from mrirecon.reconstruct import Reconstructor, network

    place, sampling = device_from(device), sampling_asked(mask_type, accelerations, center_fractions, mask_file)
    numbers = pixels or []
    if len(numbers) % 2:
        raise InputError(f"--pixels {numbers} is no list of pairs; expected row,column of each, such as 120,80 60,200")
    if input.is_dir():
        raise InputError(f"{input} is a folder; name one of its .h5 files, as one slice is explained")
    trained, volume = load(checkpoint), read_volume(input, with_target=False)
    check_sampling(volume, sampling)
    if volume.mask is not None and sampling is not None:
        print(f"{input} is undersampled already and keeps its own mask")
    way = Reconstructor(network(trained, place), sampling, MapCache(maps_folder, trained.calibration), place)
    wish = Wish(stage, slice, clusters, list(zip(numbers[::2], numbers[1::2], strict=True)), all_filters)
    explain_stages(trained.net, volume, way, wish, out, overwrite)
    return 0

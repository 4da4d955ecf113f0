"""Explain stages of a network on one slice: what `explain` does once it is clear which, with what and where to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mrirecon.atomic import replacing
from mrirecon.commands.files import make_folder
from mrirecon.data.fastmri import Volume
from mrirecon.data.slices import Slices
from mrirecon.data.writing import Attribute
from mrirecon.errors import InputError
from mrirecon.explain import Explanation, explain, frequency_response
from mrirecon.explain.clusters import MOST
from mrirecon.explain.explanation import gated_form
from mrirecon.explain.picture import picture, telling_pixels
from mrirecon.explain.pixels import pixel_numbers
from mrirecon.imaging import pose
from mrirecon.progress import bar
from mrirecon.reconstruct import Reconstructor
from mrirecon.stage_inputs import denoiser_of, stage_inputs
from mrirecon.unrolled import Unrolled


@dataclass(frozen=True)
class Wish:
    """What is explained, and which filters are kept.

    stage: from 1; None for all. slice: from 0; None for the middle one. clusters: how many, at most.
    pixels: (row, column) whose filters are kept; none for some that differ much. all_filters: keep those of all pixels.
    """

    stage: int | None
    slice: int | None
    clusters: int
    pixels: Sequence[tuple[int, ...]]
    all_filters: bool


def explain_stages(
    net: Unrolled, volume: Volume, reconstructor: Reconstructor, wish: Wish, out: Path, overwrite: bool
) -> None:
    """Write ``stage_1.png`` and ``stage_1.npz``, and so on, into a folder, and print what was found.

    reconstructor: how the file is undersampled, where its maps are kept, and what is said of that.

    Raises InputError, and writes nothing, for a stage, slice or pixel that is not there, for a denoiser that cannot be
    explained, and for files in the way.
    """
    steps, index = net.sequence, volume.n_slices // 2 if wish.slice is None else wish.slice
    if wish.stage is not None and not 1 <= wish.stage <= len(steps):
        raise InputError(f"--stage {wish.stage}; expected 1 to {len(steps)}, the stages of this network")
    if not 0 <= index < volume.n_slices:
        raise InputError(f"--slice {index}; expected 0 to {volume.n_slices - 1}, the slices of {volume.path}")
    if not 1 <= wish.clusters <= MOST:
        raise InputError(f"--clusters {wish.clusters}; expected 1 to {MOST}, such as 12")
    pixel_numbers(wish.pixels, volume.shape)
    wanted = range(1, len(steps) + 1) if wish.stage is None else range(wish.stage, wish.stage + 1)
    for number in wanted:
        gated_form(denoiser_of(steps[number - 1], number))
        for path in _files(out, number):
            if path.exists() and not overwrite:
                raise InputError(f"{path} exists; name another folder with --out, or replace it with --overwrite")
    record = reconstructor.record(volume) | {"slice": index}
    found: dict[int, Explanation] = {}
    said: list[str] = []
    with torch.inference_mode(), bar("explaining", 2 * len(wanted)) as advance:
        batch = Slices([volume], reconstructor.sampling)[[(0, index)]].to(reconstructor.device)
        problem, _ = pose(reconstructor.cache.attach(batch))
        for number, (denoiser, x) in islice(enumerate(stage_inputs(net, problem), 1), wanted.stop - 1):
            if number not in wanted:
                continue
            try:
                found[number] = explain(denoiser, x, wish.clusters)
            except InputError as error:
                raise InputError(f"stage {number}, slice {index} of {volume.path}: {error}") from None
            advance(1)
        for number, explanation in found.items():
            name = f"stage {number} of {len(steps)}, {type(denoiser_of(steps[number - 1], number)).__name__}"
            said.append(
                f"{name}: {len(explanation.active)} of {len(explanation.norms)} groups active, "
                f"{explanation.n_patterns} combinations of open gates, {len(explanation.sizes)} clusters"
            )
            pixels = wish.pixels or telling_pixels(explanation)
            arrays = arrays_of(explanation, pixels, wish.all_filters)
            make_folder(out)
            figure, archive = _files(out, number)
            picture(figure, explanation, pixels, f"{volume.path.name}, slice {index}: {name}", volume.crop)
            _write(archive, arrays, record | {"stage": number, "achieved_acceleration": batch.acceleration[0]})
            advance(1)
    print(*said, f"figures and arrays: {out}", sep="\n")


def arrays_of(explanation: Explanation, pixels: Sequence[Sequence[int]], all_filters: bool) -> dict[str, np.ndarray]:
    """An explanation as named arrays; `mrirecon explain --help` has the list."""
    means = explanation.cluster_filters
    arrays = {
        "image": explanation.image,
        "result": explanation.denoiser(explanation.image[None])[0],
        "norms": explanation.norms,
        "active": explanation.active,
        "gates": explanation.gates,
        "filters": explanation.filters,
        "responses": frequency_response(explanation.filters),
        "n_patterns": torch.tensor(explanation.n_patterns),
        "clusters": explanation.clusters,
        "cluster_sizes": explanation.sizes,
        "cluster_gates": explanation.open_share,
        "cluster_filters": means,
        "cluster_responses": frequency_response(means),
        "pixels": torch.tensor(pixels),
        "pixel_filters": explanation.effective_filters(pixels),
    }
    if all_filters:
        arrays["all_filters"] = explanation.effective_filters()
    return {name: values.cpu().numpy() for name, values in arrays.items()}


def _files(out: Path, stage: int) -> tuple[Path, Path]:
    return out / f"stage_{stage}.png", out / f"stage_{stage}.npz"


def _write(path: Path, arrays: Mapping[str, Any], record: Mapping[str, Attribute]) -> None:
    with replacing(path) as temporary, temporary.open("xb") as file:
        np.savez(file, **arrays, record=np.array(json.dumps(record)))

"""Reconstruct many files: what `reconstruct` and `predict` do once it is clear which and how."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mrirecon.data.fastmri import Volume, read_volume
from mrirecon.errors import InputError
from mrirecon.physics.sampling import Sampling
from mrirecon.progress import bar
from mrirecon.reconstruct import Reconstructor, is_finished


def reconstruct_files(
    paths: Sequence[Path],
    output: Path,
    reconstructor: Reconstructor,
    overwrite: bool = False,
) -> int:
    """Reconstruct files into a folder, with a progress bar; 0 if all are done, 1 if some failed.

    Raises InputError where nothing can start: no file is usable, or a file in the way was made otherwise.
    """
    failed: list[str] = []
    todo: list[tuple[Volume, Path]] = []
    n_finished = n_own_mask = 0
    for path in paths:
        target = output / path.name
        in_the_way = target.exists() and not overwrite
        try:
            volume = read_volume(path, with_target=False)
            check_sampling(volume, reconstructor.sampling)
            record = reconstructor.record(volume) if in_the_way else {}
        except InputError as error:
            failed.append(str(error))
            continue
        refuse_to_replace(target, path)
        if in_the_way and not is_finished(target, record):
            raise InputError(
                f"{target} exists and was made in another way; name another folder, or replace it with --overwrite"
            )
        n_own_mask += volume.mask is not None and reconstructor.sampling is not None
        n_finished += in_the_way
        if not in_the_way:
            todo.append((volume, target))
    if not todo and not n_finished:
        raise InputError("\n".join(failed))
    if n_own_mask:
        print(f"{n_own_mask} of {len(paths)} files are undersampled already and keep their own mask")
    if n_finished:
        print(f"{n_finished} of {len(paths)} files are finished already")
    make_folder(output)
    accelerations: set[str] = set()
    written = 0
    with bar("reconstructing", sum(volume.n_slices for volume, _ in todo)) as advance:
        for volume, path in todo:
            try:
                achieved = reconstructor.write(volume, path, advance)
            except (OSError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
                # Whatever the cause (memory of the GPU, a full disk, odd data), the other files can still be made.
                failed.append(str(error) if str(volume.path) in str(error) else f"{volume.path}: {error}")
                continue
            accelerations.add(f"{achieved:.2f}")
            written += 1
    if written:
        print(f"achieved acceleration: {', '.join(sorted(accelerations))}")
    print(f"{written} of {len(paths)} files written to {output}")
    if failed:
        print(f"{len(failed)} of {len(paths)} files failed:", *failed, sep="\n  ", file=sys.stderr)
        return 1
    return 0


def check_sampling(volume: Volume, sampling: Sampling | None) -> None:
    """Raises InputError for a fully sampled file where nothing says how to undersample it."""
    if volume.mask is None and sampling is None:
        raise InputError(
            f"{volume.path} is fully sampled; say how to undersample it, for example "
            "--mask_type equispaced_fraction --accelerations 4 --center_fractions 0.08"
        )


def make_folder(output: Path) -> None:
    """Make the folder for results if need be; raises InputError where there can be none, or none that takes files."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output} cannot be a folder for results ({error}); name another one") from None
    if not os.access(output, os.W_OK):
        raise InputError(f"{output} cannot be written to; name another folder")


def refuse_to_replace(target: Path, measured: Path) -> None:
    """Raises InputError where the output would replace the measured file, or a folder."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; name another folder for the reconstructions")
    if target.exists() and target.samefile(measured):
        raise InputError(f"{target} is the measured file itself; name another folder for the reconstructions")

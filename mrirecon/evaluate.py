"""Scoring files: reconstructions against targets, volume by volume; what is scored is in ``mrirecon.metrics``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrirecon.atomic import replacing
from mrirecon.data.fastmri import list_volumes
from mrirecon.data.reconstructions import Images, read_acquisition, read_reconstruction, read_targets
from mrirecon.errors import InputError
from mrirecon.figures import comparison
from mrirecon.metrics import Scores, score, scored
from mrirecon.summary import VolumeScores


@dataclass(frozen=True)
class Pair:
    """One target file and the files that reconstruct it, by label."""

    target: Path
    reconstructions: dict[str, Path]


def pairs(targets: Path, reconstructions: Sequence[Path], acquisition: str | None = None) -> list[Pair]:
    """Match files by name, each target with its reconstruction in every folder; a single target also with single files.

    acquisition: only targets of this kind. Raises InputError for targets without reconstruction, and for files in a
    folder of reconstructions that reconstruct none of the targets.
    """
    files = list_volumes(targets)
    chosen = [file for file in files if acquisition is None or read_acquisition(file) == acquisition]
    if not chosen:
        kinds = ", ".join(sorted({read_acquisition(file) for file in files}))
        raise InputError(f"{targets} holds no volume of acquisition {acquisition!r}; it holds {kinds}")
    found = {}
    for label, path in _labels(reconstructions).items():
        if path.is_file() and not targets.is_file():
            raise InputError(f"{path} is one file and {targets} a folder; give the one target file, or both as folders")
        here = {chosen[0].name: path} if path.is_file() else {file.name: file for file in list_volumes(path)}
        missing = [file.name for file in chosen if file.name not in here]
        if missing:
            raise InputError(
                f"{path} lacks {_some(missing)} of {targets}; reconstruct all, or score only what is there"
            )
        extra = sorted(here.keys() - {file.name for file in files})
        if extra and targets.is_dir():
            raise InputError(f"{path} holds {_some(extra)}, not in {targets}; is it the right folder of targets?")
        found[label] = here
    return [Pair(file, {label: here[file.name] for label, here in found.items()}) for file in chosen]


def score_pair(pair: Pair, acceleration: float | None = None) -> list[VolumeScores]:
    """Scores of one volume in every reconstruction that has this acceleration (None: any).

    The acceleration is what the reconstruction says, or else the target file.
    """
    target = read_targets(pair.target)
    results = []
    for label, path in pair.reconstructions.items():
        prediction = read_reconstruction(path)
        drawn = target.acceleration if prediction.acceleration is None else prediction.acceleration
        if acceleration is None or (drawn is not None and math.isclose(drawn, acceleration, rel_tol=1e-3)):
            scores = _score(target, prediction)
            results.append(VolumeScores(pair.target.name, label, target.acquisition, drawn, scores))
    return results


def write_json(path: Path, content: dict[str, object]) -> None:
    """Write JSON, replacing the file; it is whole or not there."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def picture(path: Path, pair: Pair) -> Path:
    """Draw the middle slice of a volume in every reconstruction, with the slice's own scores for the volume's peak."""
    target = read_targets(pair.target).images
    images = {}
    for label, file in pair.reconstructions.items():
        shown, image = scored(target, read_reconstruction(file).images)
        images[label] = image[len(image) // 2]
    return comparison(path, shown[len(shown) // 2], images, peak=float(shown.max()))


def _score(target: Images, prediction: Images) -> Scores:
    try:
        return score(target.images, prediction.images)
    except InputError as error:
        raise InputError(f"{prediction.path} against {target.path}: {error}") from error


def _labels(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by the shortest ending of each that tells them apart, usually the folder's name."""
    whole = [path.resolve().parts for path in paths]
    if len(set(whole)) < len(whole):
        raise InputError(f"the same reconstruction is given twice: {', '.join(map(str, paths))}")
    for n in range(1, max(map(len, whole)) + 1):
        labels = ["/".join(parts[-n:]) for parts in whole]
        if len(set(labels)) == len(labels):
            return dict(zip(labels, paths, strict=True))
    raise AssertionError("different paths have different endings")


def _some(names: Sequence[str], most: int = 5) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"

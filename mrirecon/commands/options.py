"""Options that several commands share, as the objects they mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch and sigpy take seconds to import, and a command's --help needs none of these
    import torch

    from mrirecon.physics.calibration import Calibration
    from mrirecon.physics.sampling import MaskType, Sampling


def sampling_from(
    mask_type: MaskType,
    accelerations: float | list[float],
    center_fractions: float | list[float],
    mask_file: Path | None = None,
) -> Sampling:
    """Single numbers and lists alike."""
    from mrirecon.physics.sampling import Sampling

    return Sampling(
        mask_type, _several(accelerations), _several(center_fractions), None if mask_file is None else str(mask_file)
    )


def sampling_asked(
    mask_type: MaskType | None,
    accelerations: float | list[float] | None,
    center_fractions: float | list[float] | None,
    mask_file: Path | None,
) -> Sampling | None:
    """How fully sampled files are undersampled, of options of which none may be given; None if none is."""
    from mrirecon.errors import InputError

    if mask_type is not None and mask_file is not None:
        raise InputError("--mask_type and --mask_file are two ways to say which mask; give one of them")
    if mask_type is None and (accelerations is not None or center_fractions is not None):
        raise InputError("--accelerations and --center_fractions need --mask_type, such as equispaced_fraction")
    if mask_type is None and mask_file is None:
        return None
    acceleration = 4.0 if accelerations is None else accelerations
    center_fraction = 0.08 if center_fractions is None else center_fractions
    return sampling_from(mask_type or "random", acceleration, center_fraction, mask_file)


def calibration_from(crop: float | None) -> Calibration:
    """The usual calibration, with another support threshold if one is given."""
    from mrirecon.physics.calibration import Calibration

    return Calibration() if crop is None else Calibration(crop=crop)


def device_from(name: str) -> torch.device:
    """``auto`` is the GPU where there is one. Raises InputError for a device that is not there."""
    import torch

    from mrirecon.errors import InputError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used ({str(error).splitlines()[0]}); try cpu or auto") from None
    return torch.device(name)


def check_output(path: Path | None, *kinds: str) -> None:
    """Raises InputError for a file that cannot be written, or whose name does not say that it may be replaced."""
    from mrirecon.errors import InputError

    if path is not None and path.suffix not in kinds:
        raise InputError(f"{path}: expected a name that ends in {' or '.join(kinds)}, since it may be replaced")
    if path is not None and not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; make it, or write {path.name} elsewhere")


def _several(value: float | list[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, list) else (value,)

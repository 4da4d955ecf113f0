"""What convolutional denoisers have in common: convolutions that keep the image's size, and the shape they expect."""

from __future__ import annotations

from torch import Tensor, nn

from mrirecon.errors import InputError

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONV: dict[int, type[Conv]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONVOLVE = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}


def convolution(n_in: int, n_out: int, ndim: int, kernel_size: int) -> Conv:
    """A convolution with bias and zero padding; raises InputError for an even kernel and for axes there are not."""
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise InputError(f"kernel_size is {kernel_size}; it must be odd, such as 3, so that pixels stay in place")
    if ndim not in CONV:
        raise InputError(f"ndim is {ndim}; use 2 for slices or 3 for volumes and 2D + time")
    return CONV[ndim](n_in, n_out, kernel_size, padding=kernel_size // 2)


def check_image(x: Tensor, n_maps: int, ndim: int) -> None:
    """Raises InputError unless x is (batch, n_maps, *space) with ndim space axes."""
    if x.ndim != ndim + 2 or x.shape[1] != n_maps:
        raise InputError(
            f"image of shape {tuple(x.shape)} for a denoiser with n_maps={n_maps}, ndim={ndim}; expected "
            f"(batch, {n_maps}, *space) with {ndim} space axes; set n_maps and ndim to the data's"
        )

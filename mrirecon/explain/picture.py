"""An explanation as a picture: the image and its clusters, then filters with what they do to frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke
from torch import Tensor

from mrirecon.errors import InputError
from mrirecon.explain.clusters import MOST
from mrirecon.explain.explanation import Explanation, frequency_response
from mrirecon.explain.tiles import COLUMNS, Pair, Panel, Sheet
from mrirecon.figures import save
from mrirecon.imaging import magnitude

# Distinguishable beside each other; one a cluster, and grey for those beyond twelve.
COLORS = (
    *("#e6a817", "#2b6cb8", "#d9541e", "#57b4e9", "#a3194f", "#7fbf3f"),
    *("#6a3d9a", "#f29db5", "#0f7f5c", "#8c5a2b", "#2ec4b6", "#3d3d3d"),
)
OTHER = "#b5b5b5"
LETTERS = "ABCDEF"  # of pixels


@torch.no_grad()
def picture(
    path: str | Path,
    explanation: Explanation,
    pixels: Sequence[Sequence[int]],
    title: str = "",
    crop: tuple[int, int] | None = None,
) -> Path:
    """Draw the explanation of a slice; of several map sets the first, but for magnitudes, which are over all.

    pixels: (row, column) whose filters are drawn, the first six.
    crop: the (h, w) in the middle of the image that is drawn, if the pixels are in it. Axes count from the whole
        image's corner.
    path: .png, .pdf or .svg; the file is replaced, and appears only when it is whole.
    """
    if explanation.image.ndim != 3:
        raise InputError(f"image of shape {tuple(explanation.image.shape)}; expected a slice (map, H, W)")
    pixels = pixels[: len(LETTERS)]
    sheet = Sheet()
    sheet.heading(
        title or "What a denoiser does with an image",
        f"{len(explanation.active)} of its {len(explanation.norms)} groups are active; their gates open in "
        f"{explanation.n_patterns:,} different combinations. Pixels are row,column.",
    )
    view = _view(explanation.image.shape[1:], crop, pixels)
    given, *_ = sheet.panels(_panels(explanation, view), (view[0].start, view[1].start), "units of the image")
    edge = [withStroke(linewidth=2, foreground="black")]
    for letter, (row, column) in zip(LETTERS, pixels, strict=False):
        given.plot(column, row, "s", markersize=4, color="none", markeredgecolor="white", path_effects=edge)
        # Towards the middle, so that no letter leaves the image.
        right, up = column < (view[1].start + view[1].stop) / 2, row > (view[0].start + view[0].stop) / 2
        how: dict[str, Any] = {"ha": "left" if right else "right", "va": "bottom" if up else "top"}
        beside = (4 if right else -4, 2 if up else -2)
        given.annotate(
            letter, (column, row), beside, textcoords="offset points", weight="bold", color="white", path_effects=edge,
            **how,
        )  # fmt: skip

    identity, n = explanation.identity, len(explanation.sizes)
    sheet.heading(
        f"{n} cluster{'s' * (n > 1)} of pixels that open similar gates, and their shares of the pixels"
        + (f"; the {COLUMNS} largest" if n > COLUMNS else ""),
        "Above, the mean of the pixels' filters, less the identity. Below, its frequency response, with the identity: "
        "1 keeps a frequency as it is. Zero frequency is in the middle.",
    )
    shares = (explanation.sizes / explanation.sizes.sum()).tolist()
    means = explanation.cluster_filters[:COLUMNS]
    sheet.pairs(_pairs(means, [f"{i}: {share:.1%}" for i, share in enumerate(shares)], identity, COLORS), True)
    if pixels:
        sheet.heading(
            "The filters at the pixels marked in the image, for real and imaginary parts",
            "As above. The sum of a filter's taps, with the identity, times the patch around its pixel is the result.",
        )
        e = explanation.effective_filters(pixels)[:, 0].movedim(0, 1).flatten(0, 1)
        names = [f"{LETTERS[i]}  {r},{c} {part}" for i, (r, c) in enumerate(pixels) for part in ("re", "im")]
        sheet.pairs(_pairs(e, names, identity), True)
    n, shown = len(explanation.active), explanation.filters[: 2 * COLUMNS]
    if n:
        of = f"{n} active groups, of {len(explanation.norms)}"
        sheet.heading(
            f"The {len(shown)} strongest of {of}" if n > len(shown) else of,
            "Number of the group, and norm of its filter; filter and frequency response, each in a scale of its own.",
        )
        names = [f"{i}: {explanation.norms[i]:#.2g}" for i in explanation.active.tolist()]
        sheet.pairs(_pairs(shown, names, torch.zeros_like(identity)), False)
    return save(sheet.finished(), Path(path))


@torch.no_grad()
def telling_pixels(explanation: Explanation, n: int = len(LETTERS)) -> list[tuple[int, ...]]:
    """Pixels to look at, of 2000 that are not dark: the one of the most usual filter, then always the one most unlike.

    They keep some distance, and there are fewer where filters do not differ.
    """
    image = magnitude(explanation.image[None])[0]
    bright = (image > 0.25 * image.max()).nonzero()
    bright = bright[:: len(bright) // 2000 + 1]
    e = explanation.effective_filters(bright.tolist())[:, 0].movedim(0, 1).flatten(1)
    unlike = torch.linalg.vector_norm(e - e.mean(0), dim=1)
    chosen = [int(unlike.argmin())]
    unlike = torch.full_like(unlike, torch.inf)
    for _ in range(n - 1):
        unlike = unlike.minimum(torch.linalg.vector_norm(e - e[chosen[-1]], dim=1))
        unlike[(bright - bright[chosen[-1]]).abs().amax(1) < max(image.shape) / 12] = 0
        if not bool(unlike.any()):
            break
        chosen.append(int(unlike.argmax()))
    return [tuple(pixel) for pixel in bright[chosen].tolist()]


def _view(space: Sequence[int], crop: tuple[int, int] | None, pixels: Sequence[Sequence[int]]) -> tuple[slice, slice]:
    """The rows and columns that are drawn: the middle, or all if a pixel lies outside."""
    middle = [range(max((n - m) // 2, 0), min((n + m) // 2, n)) for n, m in zip(space, crop or space, strict=True)]
    if not all(i in drawn for pixel in pixels for i, drawn in zip(pixel, middle, strict=True)):
        middle = [range(n) for n in space]
    rows, columns = (slice(drawn.start, drawn.stop) for drawn in middle)
    return rows, columns


def _panels(explanation: Explanation, view: tuple[slice, slice]) -> list[Panel]:
    x = explanation.image[None]
    image, change = (_array(magnitude(y)[0])[view] for y in (x, explanation.denoiser(x) - x))
    white = float(np.quantile(image, 0.995)) or 1.0
    # Clusters of air are those of noise: pale. Patches of zeros have none.
    opacity = np.clip(5 * image / white, 0.1, 1)
    palette = np.array([to_rgb(color) for color in (*COLORS, *[OTHER] * (MOST - len(COLORS)), "white")])
    real, imaginary = (np.dstack([palette[_array(numbers[0])[view]], opacity]) for numbers in explanation.clusters)
    return [
        Panel("what the denoiser is given, magnitude", image, "gray", white),
        Panel("clusters of the real part (pale where it is dark)", real),
        Panel("clusters of the imaginary part", imaginary),
        Panel("what it changes, magnitude", change, "inferno", float(change.max()) or 1.0),
    ]


def _pairs(filters: Tensor, names: Sequence[str], less: Tensor, frames: Sequence[str] = ()) -> list[Pair]:
    """Filters, shown without ``less``, over their responses."""
    shown, responses = _array(filters - less), _array(frequency_response(filters))
    # There may be more names and frames than filters that are drawn.
    return [Pair(*drawn) for drawn in zip(shown, responses, names, *([frames] if frames else []), strict=False)]


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()

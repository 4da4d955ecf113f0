"""Pictures: a target, reconstructions beside it and their errors below on one colour scale; and simple curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrirecon.atomic import replacing
from mrirecon.errors import InputError
from mrirecon.metrics import psnr, ssim

CELL = 2.2  # width of an image, inches
GAP = 0.04  # between images, inches
HEAD = 0.42  # room for two lines of text above an image, inches


def comparison(
    path: str | Path,
    target: np.ndarray,
    images: Mapping[str, np.ndarray],
    *,
    captions: Mapping[str, str] | None = None,
    target_name: str = "target",
    peak: float | None = None,
) -> Path:
    """Draw one slice: target and images in one grey window, and below them | |target| - |image| | in one colour scale.

    target, images: (h, w), shown as fastMRI stores them, first row on top; complex images by their magnitude.
    captions: text below the name of an image; its PSNR and SSIM against the target unless given.
    peak: data range of PSNR and SSIM, and 100 % of the error scale; the maximum of the target unless given, which
        differs from the volume's.
    path: .png, .pdf or .svg; the file is replaced, and appears only when it is whole.
    """
    path = Path(path)
    truth = np.abs(target)
    shown = {name: np.abs(image) for name, image in images.items()}
    wrong = [f"{name} {image.shape}" for name, image in shown.items() if image.shape != truth.shape]
    if truth.ndim != 2 or wrong or not shown:
        beside = ", ".join(wrong) or "no image"
        raise InputError(f"picture of target {truth.shape} with {beside}; expected images of one shape (h, w)")
    peak = float(truth.max()) if peak is None else peak
    errors = {name: np.abs(truth - image) / peak * 100 for name, image in shown.items()}
    window = float(np.quantile(truth, 0.995))
    # The largest of the images' 99.5 % quantiles: no map saturates but for a few pixels of the worst image.
    largest = max(float(np.quantile(error, 0.995)) for error in errors.values()) or 1.0

    n, cell_height = len(shown) + 1, CELL * truth.shape[0] / truth.shape[1]
    width, height = n * (CELL + GAP) - GAP, HEAD + 2 * cell_height + GAP
    figure = Figure(figsize=(width, height), facecolor="white")

    def cell(column: int, row: int) -> tuple[float, float, float, float]:
        bottom = (1 - row) * (cell_height + GAP)
        return column * (CELL + GAP) / width, bottom / height, CELL / width, cell_height / height

    for column, (name, image) in enumerate({target_name: truth, **shown}.items()):
        axes = figure.add_axes(cell(column, 0))
        axes.imshow(image, cmap="gray", vmin=0, vmax=window, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        if column == 0:
            caption = ""
        elif captions is not None:
            caption = captions.get(name, "")
        else:
            pair = truth[None], image[None]
            caption = f"{psnr(*pair, peak=peak):.1f} dB   SSIM {ssim(*pair, peak=peak):.3f}"
        middle, top = (column * (CELL + GAP) + CELL / 2) / width, 1 - HEAD / height
        figure.text(middle, top + 0.22 / height, name, ha="center", va="bottom", fontsize=10, weight="bold")
        figure.text(middle, top + 0.05 / height, caption, ha="center", va="bottom", fontsize=8, color="0.3")
    for column, error in enumerate(errors.values(), start=1):
        axes = figure.add_axes(cell(column, 1))
        drawn = axes.imshow(error, cmap="inferno", vmin=0, vmax=largest, interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    left, bottom, cell_width, full = cell(0, 1)
    scale = figure.add_axes((left + 0.88 * cell_width, bottom + 0.1 * full, 0.05 * cell_width, 0.8 * full))
    bar = figure.colorbar(drawn, cax=scale)
    bar.outline.set_visible(False)
    scale.yaxis.set_ticks_position("left")
    scale.tick_params(labelsize=8, length=2)
    label = "error\n| |target| − |image| |\nin % of maximum"
    figure.text(left + 0.66 * cell_width, bottom + 0.5 * full, label, ha="right", va="center", fontsize=8, color="0.3")
    return save(figure, path)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a .png, .pdf or .svg, which appears when it is whole; InputError for another kind."""
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; make it, or write the picture elsewhere")
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lstrip(".").lower()
    if kind not in kinds:
        raise InputError(f"picture {path.name}: unknown kind {path.suffix!r}; use .png, .pdf or .svg")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=160)
    return path


def curve(path: str | Path, lines: Mapping[str, Sequence[float]], x_label: str, y_label: str, note: str = "") -> Path:
    """Draw named lines over 0, 1, 2, ... with their points; the last one in full colour, its values beside its points.

    path: as for :func:`comparison`.
    note: what a reader has to know, below the figure; lines of at most 85 letters fit.
    """
    figure = Figure(figsize=(5.2, 3.4), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    *earlier, last = lines
    for name in earlier:
        axes.plot(lines[name], "o-", color="0.7", markersize=3, linewidth=1, label=name)
    axes.plot(lines[last], "o-", color="#1f5fa8", markersize=4, label=last)
    values = lines[last]
    for i in {0, len(values) - 1, int(np.argmax(values))}:
        axes.annotate(f"{values[i]:.1f}", (i, values[i]), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    if note:
        figure.supxlabel(note, fontsize=7, color="0.4")
    return save(figure, Path(path))

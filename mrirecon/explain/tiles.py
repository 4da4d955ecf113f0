"""A sheet of small pictures: panels of one slice side by side, and below them rows of filters over their responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

COLUMNS, PANELS = 12, 4
TILE, GAP, PANEL_GAP = 0.98, 0.14, 0.2  # inches
LEFT, RIGHT = 0.5, 0.95  # inches beside the tiles, for ticks and scales
ACROSS = COLUMNS * (TILE + GAP) - GAP
PANEL = (ACROSS - (PANELS - 1) * PANEL_GAP) / PANELS
LINE = 0.2  # inches, of a line of text


class Panel(NamedTuple):
    """An image (h, w) in a colour map from 0 to ``most``, or (h, w, 4) in colours of its own."""

    name: str
    image: np.ndarray
    colors: str = "gray"
    most: float = 1.0


class Pair(NamedTuple):
    """A filter (k, k) over its frequency response (n, n), with a line of text above and a frame of a colour."""

    filter: np.ndarray
    response: np.ndarray
    name: str
    frame: str | None = None


class Sheet:
    """Filled from top to bottom; its height is what it then holds.

    All but panels and scales lies on one ``paper``, in inches from its upper left corner and upwards: axes for each of
    a hundred tiles would take seconds.
    """

    def __init__(self) -> None:
        self.figure = Figure(facecolor="white")
        self.paper = self.figure.add_axes((0, 0, 1, 1))
        self.paper.set_axis_off()
        self._y = -0.1

    def heading(self, title: str, words: str = "") -> None:
        self._text(LEFT, self._y - 0.24, title, size=11, weight="bold")
        self._text(LEFT, self._y - 0.24 - LINE, words, size=8.5, color="0.35")
        self._y -= 0.34 + (LINE if words else 0)

    def panels(self, panels: Sequence[Panel], corner: tuple[int, int], scale: str) -> list[Axes]:
        """Four images of one size, first row on top.

        corner: row and column of the first pixel. scale: what the last image's colours are.
        """
        height, width = panels[0].image.shape[:2]
        extent = (corner[1] - 0.5, corner[1] + width - 0.5, corner[0] + height - 0.5, corner[0] - 0.5)
        tall = min(PANEL * height / width, 1.5 * PANEL)
        bottom, found = self._y - LINE - tall, []
        for i, panel in enumerate(panels):
            left = LEFT + i * (PANEL + PANEL_GAP)
            self._text(left + PANEL / 2, self._y - 0.13, panel.name, size=9, ha="center")
            axes = self._axes(left, bottom, PANEL, tall)
            look: dict[str, Any] = {"cmap": panel.colors, "vmin": 0, "vmax": panel.most, "interpolation": "nearest"}
            drawn = axes.imshow(panel.image, extent=extent, **look)
            axes.tick_params(labelsize=7, length=2, labelleft=i == 0, color="0.5", labelcolor="0.35")
            axes.spines[:].set_color("0.75")
            found.append(axes)
        self._scale(drawn, left + PANEL, bottom, tall, scale)
        self._y = bottom - 0.3
        return found

    def pairs(self, pairs: Sequence[Pair], one_scale: bool) -> None:
        """Filters in colours symmetric about zero, with their responses below, in as many lines as are needed.

        one_scale: all filters in one scale, and all responses, each with a bar; else each in its own.
        """
        for first in range(0, len(pairs), COLUMNS):
            self._line(pairs[first : first + COLUMNS], one_scale)

    def _line(self, pairs: Sequence[Pair], one_scale: bool) -> None:
        self._y -= LINE
        for i, pair in enumerate(pairs):
            self._text(LEFT + i * (TILE + GAP) + TILE / 2, self._y + 0.07, pair.name, size=8, ha="center")
        self._row("filter", [pair.filter for pair in pairs], pairs, one_scale, "RdBu_r", -1)
        self._row("response", [pair.response for pair in pairs], pairs, one_scale, "viridis", 0)
        self._y -= GAP - 0.05

    def _row(
        self, name: str, images: list[np.ndarray], pairs: Sequence[Pair], one_scale: bool, colors: str, lowest: int
    ) -> None:
        most = [float(np.abs(image).max()) or 1.0 for image in images]
        if one_scale:
            most = [max(most)] * len(most)
        bottom = self._y - TILE
        for i, (image, pair) in enumerate(zip(images, pairs, strict=True)):
            left = LEFT + i * (TILE + GAP)
            look: dict[str, Any] = {"vmin": lowest * most[i], "vmax": most[i], "interpolation": "nearest"}
            box = (left, left + TILE, bottom, bottom + TILE)
            drawn = self.paper.imshow(image, cmap=colors, extent=box, aspect="auto", **look)
            line: dict[str, Any] = {"linewidth": 2.5 if pair.frame else 0.8, "edgecolor": pair.frame or "0.75"}
            self.paper.add_artist(Rectangle((left, bottom), TILE, TILE, fill=False, **line))
        if one_scale:
            self._scale(drawn, left + TILE, bottom, TILE, name)
        self._y = bottom - 0.05

    def finished(self) -> Figure:
        width, height = LEFT + ACROSS + RIGHT, 0.1 - self._y
        self.figure.set_size_inches(width, height)
        self.paper.set(xlim=(0, width), ylim=(-height, 0))
        return self.figure

    def _scale(self, drawn: AxesImage, right: float, bottom: float, height: float, name: str) -> None:
        """A bar of colours to the right of what was drawn."""
        axes = self._axes(right + 0.12, bottom + 0.04 * height, 0.1, 0.92 * height)
        bar = self.figure.colorbar(drawn, cax=axes)
        bar.outline.set_visible(False)
        bar.set_label(name, fontsize=8, color="0.35")
        axes.locator_params(axis="y", nbins=5)
        axes.tick_params(labelsize=7, length=2, color="0.5", labelcolor="0.35")

    def _axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        return self.paper.inset_axes((left, bottom, width, height), transform=self.paper.transData)

    def _text(self, left: float, bottom: float, words: str, **how: Any) -> None:
        self.paper.text(left, bottom, words, **how)

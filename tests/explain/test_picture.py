"""The picture of an explanation: what stands where, for whatever a denoiser and an image can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mrirecon.denoisers import ConvexDual
from mrirecon.errors import InputError
from mrirecon.explain import NONE, Explanation, explain
from mrirecon.explain import picture as explain_picture
from mrirecon.explain.picture import COLORS, OTHER, picture, telling_pixels


def explained(n_maps: int = 1, n_gates: int = 40, clusters: int = 12, filters: float = 0.1) -> Explanation:
    generator = torch.Generator().manual_seed(0)
    net = ConvexDual(n_gates, 3)
    with torch.no_grad():
        net.filters.normal_(generator=generator).mul_(filters)
    return explain(net, torch.randn(n_maps, 31, 24, dtype=torch.complex64, generator=generator), clusters)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    drawn: list[Figure] = []
    monkeypatch.setattr(explain_picture, "save", lambda figure, path: drawn.append(figure))
    return drawn


def panels_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes[0].child_axes if axes.images]


def test_the_image_is_right_side_up_and_its_axes_count_from_the_whole_image(figures: list[Figure]) -> None:
    explanation = explained()
    picture("x.png", explanation, [(10, 12)], crop=(21, 14))
    picture("x.png", explanation, [(10, 12), (0, 23)], crop=(21, 14))
    given, whole = (panels_of(figure)[0] for figure in figures)
    assert given.get_xlim() == (4.5, 18.5) and given.get_ylim() == (25.5, 4.5)
    np.testing.assert_array_equal(given.images[0].get_array(), explanation.image[0].abs()[5:26, 5:19])
    assert whole.get_xlim() == (-0.5, 23.5) and whole.get_ylim() == (30.5, -0.5), "a pixel lies outside the middle"
    assert [text.get_text() for text in whole.texts] == ["A", "B"] and whole.texts[1].xy == (23, 0)


def test_clusters_have_their_colours_in_the_map_and_around_their_filters(figures: list[Figure]) -> None:
    explanation = explained(clusters=14)
    picture("x.png", explanation, [])
    axes, panels = figures[0].axes, panels_of(figures[0])
    for part in (0, 1):
        shown, numbers = panels[1 + part].images[0].get_array(), explanation.clusters[part, 0].numpy()
        for number in range(14):
            assert (shown[numbers == number, :3] == to_rgb((*COLORS, OTHER, OTHER)[number])).all()
    frames = [patch for patch in axes[0].patches if patch.get_linewidth() == 2.5]
    assert [frame.get_edgecolor()[:3] for frame in frames] == 2 * [to_rgb(color) for color in COLORS]
    fourth = axes[0].images[3]
    left, right, bottom, top = fourth.get_extent()
    assert (left, bottom) == frames[3].get_xy() and right > left and top > bottom and fourth.origin == "upper"
    np.testing.assert_array_equal(fourth.get_array(), explanation.cluster_filters[3] - explanation.identity)
    low, high = fourth.get_clim()
    assert low == -high


def test_no_words_overlap(figures: list[Figure]) -> None:
    picture(
        "x.png",
        explained(),
        [(0, 0), (0, 23), (30, 0), (30, 23), (0, 11), (30, 12), (5, 5)],
        "a name of some length.h5, slice 12: stage 10 of 12",
    )
    figure, panels = figures[0], panels_of(figures[0])
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    width, height = figure.bbox.width, figure.bbox.height
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    drawn = [axes.get_tightbbox() for axes in panels] + [tile.get_window_extent() for tile in figure.axes[0].images]
    assert not [(a, b) for a in boxes for b in drawn if a.overlaps(b)]
    assert not [(a, b) for i, a in enumerate(drawn) for b in drawn[:i] if a.overlaps(b)]


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ({}, "svg"),
        ({"filters": 0.0}, "png"),
        ({"n_gates": 1}, "png"),
        ({"n_maps": 2, "clusters": 1}, "png"),
        ({"clusters": 255}, "png"),
    ],
    ids=str,
)
def test_whatever_there_is_to_draw_is_drawn(case: dict[str, int], kind: str, tmp_path: Path) -> None:
    explanation = explained(**case)
    path = picture(tmp_path / f"x.{kind}", explanation, telling_pixels(explanation), crop=(64, 10))
    assert path.stat().st_size > 10_000 and list(tmp_path.iterdir()) == [path]


def test_telling_pixels_are_bright_and_see_different_filters() -> None:
    explanation = explained()
    pixels = telling_pixels(explanation)
    e = explanation.effective_filters(pixels)[:, 0].movedim(0, 1).flatten(1)
    assert len(pixels) == 6 and len(e.unique(dim=0)) == 6
    image = explanation.image[0].abs()
    assert all(image[pixel] > 0.25 * image.max() for pixel in pixels)
    assert len(telling_pixels(explained(filters=0.0))) == 1, "where all filters are one, one pixel tells it"
    assert (explanation.clusters != NONE).all()


def test_only_slices_are_drawn() -> None:
    with pytest.raises(InputError, match="expected a slice"):
        picture("x.png", explain(ConvexDual(2, 3, ndim=3), torch.ones(1, 3, 4, 5, dtype=torch.complex64)), [])

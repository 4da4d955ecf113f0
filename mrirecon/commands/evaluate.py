"""Score reconstructions against targets."""

from __future__ import annotations

from pathlib import Path


def evaluate(
    targets: Path,
    reconstructions: list[Path],
    json: Path | None = None,
    picture: Path | None = None,
    acquisition: str | None = None,
    acceleration: float | None = None,
    against: str | None = None,
) -> int:
    """Score reconstructions against targets: NMSE, PSNR and SSIM of every volume, as fastMRI's evaluate.py does.

    Files are matched by name. The table gives mean and spread over volumes by acquisition and acceleration; several
    reconstructions are compared in it, with their difference to the first,
    or to the one that --against names.

    Args:
        targets: Folder of fastMRI files with reconstruction_rss (reconstruction_esc in single-coil files), or one file.
        reconstructions: One or more folders of files with the dataset `reconstruction`, or files for one target file.
        json: File for the scores of every volume and the summary; replaced if it exists.
        picture: File (.png, .pdf, .svg) for the middle slice of the first volume in every reconstruction, with error
            maps; replaced if it exists. Give one target file to choose the volume.
        acquisition: Score only volumes of this acquisition, such as AXT2.
        acceleration: Score only reconstructions of this acceleration, as their file or else the target's says.
        against: Name of the folder that the others are compared with; the first unless given.
    """
    from rich.console import Console
    from rich.progress import track

    from mrirecon.commands.options import check_output
    from mrirecon.errors import InputError
    from mrirecon.evaluate import pairs, score_pair, write_json
    from mrirecon.evaluate import picture as draw
    from mrirecon.summary import report, summarise, table

    check_output(json, ".json")
    check_output(picture, ".png", ".pdf", ".svg")
    matched = pairs(targets, reconstructions, acquisition)
    progress = Console(stderr=True)
    results = []
    for pair in track(matched, description="evaluate", console=progress, transient=True):
        results += score_pair(pair, acceleration)
    if not results:
        raise InputError(
            f"no volume has acceleration {acceleration:g}; leave --acceleration out to see those there are"
        )
    summaries = summarise(results, against)
    console = Console()
    # Piped output has no width of its own, and rich would cut the table to 80 columns.
    (console if console.is_terminal else Console(width=140)).print(table(summaries))
    if json is not None:
        write_json(json, report(results, summaries))
        print(f"scores: {json}")
    if picture is not None:
        first = next(pair for pair in matched if pair.target.name == results[0].volume)
        print(f"picture: {draw(picture, first)}")
    return 0

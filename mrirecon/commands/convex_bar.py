"""What `mrirecon convex-fit` shows while it runs."""

from __future__ import annotations

from math import log10
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mrirecon.convex.certificate import Certificate


class Bar:
    """A bar of the gap of the stage in work, on a logarithmic scale, and a line for every stage that is done."""

    def __init__(self, n_stages: int, tolerance: float) -> None:
        self.n_stages, self.tolerance, self.printed = n_stages, tolerance, 0
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self.task = self.progress.add_task("reading the data", total=1.0)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, stage: int, value: float | None, certificate: Certificate) -> None:
        """A round of a stage's program, of the candidate ``value`` if there are any."""
        text = (
            f"stage {stage + 1} of {self.n_stages}{_at(value)}: gap {max(certificate.gap, 0.0):.1e}, "
            f"{certificate.active} groups active"
        )
        part = log10(max(certificate.gap, self.tolerance)) / log10(self.tolerance)
        self.progress.update(self.task, description=text, completed=min(max(part, 0.0), 1.0))

    def done(self, stages: list[dict[str, Any]]) -> None:
        """Print those of the stages that are not printed yet."""
        for number, stage in enumerate(stages[self.printed :], start=self.printed):
            certificate = Certificate(**{key: stage[key] for key in Certificate.__dataclass_fields__})
            self.progress.console.print(
                f"stage {number + 1} of {self.n_stages}{_at(stage['value'])}, given its inputs and gates: "
                f"{certificate}; the network's own step {stage['step']:.6g}; "
                f"validation PSNR {stage['psnr']:.2f} dB, SSIM {stage['ssim']:.3f}",
                soft_wrap=True,
                highlight=False,
            )
        self.printed = len(stages)


def _at(value: float | None) -> str:
    return "" if value is None else f" at {value:g}"

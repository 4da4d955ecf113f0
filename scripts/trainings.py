"""Trainings of a study: each a `mrirecon fit` in a process of its own, killed and started again at will."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from study import Lines, command

from mrirecon.errors import InputError

NAME = "{step}-{val_psnr:.4f}"


class Trainings:
    """Trainings by name, with the weights of every validation.

    A training that is done is a line, its validation PSNR by the number of updates; one that is not goes on where it
    was.

    Args:
        folder: where the runs go.
        lines: the study's results.
        settings: all that the results depend on. Lines of other settings are refused.
    """

    def __init__(self, folder: Path, lines: Lines, settings: dict[str, Any]) -> None:
        self.folder, self.lines = folder, lines
        settings = json.loads(json.dumps(settings))  # as they are read again
        known = lines.done.get("settings") if lines.done else lines.keep("settings", settings)
        if known != settings:
            raise InputError(f"{lines.path} has results of other settings; move it away, or name another file")
        folder.mkdir(parents=True, exist_ok=True)

    def curve(
        self, name: str, words: Sequence[str], every: int, card: dict[str, Any] | None = None
    ) -> dict[int, float]:
        """Train; the validation PSNR by the number of updates.

        words: of `mrirecon fit`. every: epochs from one validation to the next. card: more settings; to its callbacks
            comes the one that keeps the weights.
        """
        card = card or {}
        key = f"{name} | curve"
        if key not in self.lines.done:
            run = self.run(name)
            # Killed before its first last.ckpt a run begins anew, and finds what it has kept.
            keep = {"dirpath": str(run / "kept"), "filename": NAME, "save_top_k": -1, "save_weights_only": True}
            keeping = {"class_path": "ModelCheckpoint", "init_args": {**keep, "enable_version_counter": False}}
            trainer = {"check_val_every_n_epoch": every, "enable_progress_bar": False, "enable_model_summary": False}
            trainer |= card.get("trainer", {}) | {"callbacks": [keeping, *card.get("trainer", {}).get("callbacks", [])]}
            run.mkdir(exist_ok=True)
            (run / "card.yaml").write_text(json.dumps({**card, "trainer": trainer}))  # JSON is YAML
            command("fit", *words, "-c", str(run / "card.yaml"), "--run", str(run), "--resume", "auto")
            found = [[n, float(path.stem.rpartition("=")[2])] for n, path in self.weights(name).items()]
            self.lines.keep(key, found)
        return dict(self.lines.done[key])

    def weights(self, name: str) -> dict[int, Path]:
        """The checkpoint after each validation of a training, by the number of updates."""
        found = (self.run(name) / "kept").glob("*.ckpt")
        return dict(sorted((int(path.stem.split("-")[0].partition("=")[2]), path) for path in found))

    def run(self, name: str) -> Path:
        return self.folder / name.replace(" | ", "-").replace(" ", "_").replace(",", "")


def best_rate(tried: Callable[[float], float], rates: Sequence[float]) -> tuple[float, dict[float, float]]:
    """The learning rate of the highest score, with all that were tried: more on a side while the last there is best."""
    scores = {rate: tried(rate) for rate in rates}
    while True:
        best = max(scores, key=lambda rate: scores[rate])
        further = 2 * best if best == max(scores) else best / 2 if best == min(scores) else None
        if further is None:
            return best, scores
        scores[further] = tried(further)

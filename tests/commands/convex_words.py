"""A small run of `mrirecon convex-fit`: what is typed, and what it says of its stages."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands.conftest import SAMPLING


def words(data: Path, run: Path, model: str = "pgd_convex", *more: str) -> list[str]:
    cards = ["-c", "datasets/brain_multicoil", "-c", f"models/{model}", "-c", "train/convex"]
    denoiser = "--model.net.init_args.denoiser.init_args"
    small = [f"{denoiser}.n_gates", "20", f"{denoiser}.kernel_size", "3"]
    steps = [] if model == "convex_one_shot" else ["--model.net.init_args.n_steps", "2"]
    files = ["--data.path", str(data), "--data.num_workers", "0", *SAMPLING]
    return ["convex-fit", *cards, *files, *small, *steps, "--run", str(run), *more]


def certificates(run: Path) -> list[dict]:
    return json.loads((run / "certificates.json").read_text())["stages"]

"""The main job in small: simulate, train, reconstruct, score; four to ten minutes on two cores, by their kind.

Every line it runs is a command that works alone, and is printed before it runs. Everything goes into the folder
`quickstart` of the repository; what an earlier run left there is replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mrirecon.cli import main as mrirecon

FOLDER = Path(__file__).resolve().parents[1] / "quickstart"
OUTPUTS = ("zero-filled", "cg-sense", "network")
MASK = "--mask_type equispaced_fraction --accelerations 4 --center_fractions 0.08"
# A network small enough for the time: 4 steps of 32 channels instead of 6 of 48.
NET = "--model.net.init_args.n_steps 4 --model.net.init_args.denoiser.init_args.channels 32"
DATA_CONSISTENCY = "--model.net.init_args.weight 0.02 --model.net.init_args.iterations 8"
STRENGTHS = "[0.0005,0.001,0.002,0.004,0.008,0.015,0.03,0.06]"  # for CG-SENSE, two decades


@dataclass(frozen=True)
class Size:
    """What fits into four minutes on two fast cores; the tests run less."""

    train: int = 60  # volumes of two slices
    val: int = 4
    test: int = 6
    pixels: int = 160  # of each side
    epochs: int = 16


FULL = Size()


def main(size: Size = FULL, folder: Path = FOLDER) -> int:
    start = time.time()
    os.chdir(folder.parent)  # so that the commands are short
    here = Path(folder.name)
    data = here / "data"
    for name in ("data", "run", *OUTPUTS):
        shutil.rmtree(here / name, ignore_errors=True)
    heads = f"--slices 2 --coils 6 --shape [{size.pixels},{size.pixels}] --anatomy head --snr [50,200]"
    for split in ("train", "val", "test"):
        do(f"simulate {data}/multicoil_{split} --split {split} --volumes {getattr(size, split)} {heads}")
    cards = "-c datasets/phantom -c models/modl_unshared -c train/end_to_end"
    settings = f"--data.simulated null --data.path {data} {NET} {DATA_CONSISTENCY} --model.rows 64"
    do(f"fit {cards} {settings} --trainer.max_epochs {size.epochs} --run {here}/run")

    do(f"tune {data}/multicoil_val cg-sense --strengths {STRENGTHS} --json {here}/cg-sense.json {MASK}")
    strength = json.loads((here / "cg-sense.json").read_text(encoding="utf-8"))["best"]
    do(f"reconstruct {data}/multicoil_test {here}/zero-filled --method zero-filled {MASK}")
    do(f"reconstruct {data}/multicoil_test {here}/cg-sense --method cg-sense --strength {strength} {MASK}")
    # The last epoch, not the best by SSIM: air in which nothing is left costs SSIM against the noisy RSS.
    do(f"reconstruct {data}/multicoil_test {here}/network --model {here}/run/checkpoints/last.ckpt {MASK}")
    outputs = " ".join(f"{here}/{name}" for name in OUTPUTS)
    picture = here / "comparison.png"
    do(f"evaluate {data}/multicoil_test {outputs} --against cg-sense --json {here}/scores.json --picture {picture}")
    print(f"\n{margin(here / 'scores.json')}")
    print(f"{time.time() - start:.0f} s. Target, reconstructions and their errors:\n{picture.resolve()}")
    return 0


def margin(scores: Path) -> str:
    """By how much the network beats the best CG-SENSE, volume by volume."""
    volumes = json.loads(scores.read_text(encoding="utf-8"))["volumes"]
    psnr = {(v["file"], v["reconstruction"]): v["psnr"] for v in volumes}
    gains = [psnr[file, "network"] - value for (file, name), value in psnr.items() if name == "cg-sense"]
    better = sum(gain >= 1 for gain in gains)
    return (
        f"PSNR of the network over CG-SENSE: {sum(gains) / len(gains):+.2f} dB on average, "
        f"at least +1 dB on {better} of {len(gains)} held-out volumes."
    )


def do(line: str) -> None:
    """Run one command of mrirecon; the script ends with it if it fails."""
    print(f"\n$ mrirecon {line}", flush=True)
    code = mrirecon(line.split())
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())

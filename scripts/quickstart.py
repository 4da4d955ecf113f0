"""The main job in small: simulate, train, reconstruct, score; about four minutes on two cores.

Every line it runs is a command that works alone, and is printed before it runs. Everything goes into ./quickstart.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from mrirecon.cli import main as mrirecon

HERE = Path("quickstart")
MASK = ["--mask_type", "equispaced_fraction", "--accelerations", "4", "--center_fractions", "0.08"]
STRENGTHS = "[0.001,0.002,0.004,0.008,0.015,0.03,0.06,0.1]"  # for CG-SENSE, two decades


def main() -> int:
    start = time.time()
    if HERE.exists():
        shutil.rmtree(HERE)  # only ever made by this script
    data, run = HERE / "data", HERE / "run"
    for split, volumes in (("train", 60), ("val", 4), ("test", 6)):
        files = ["--volumes", str(volumes), "--slices", "2", "--coils", "6", "--shape", "[160,160]", "--anatomy", "head", "--snr", "[50,200]", "--split", split]
        do("simulate", data / f"multicoil_{split}", *files)
    cards = ["-c", "datasets/phantom", "-c", "models/modl_unshared", "-c", "train/end_to_end"]
    files: list[str | Path] = ["--data.simulated", "null", "--data.path", data]
    size = ["--model.net.init_args.n_steps", "4", "--model.net.init_args.denoiser.init_args.channels", "32"]
    size += ["--model.net.init_args.weight", "0.02", "--model.net.init_args.iterations", "8"]
    do("fit", *cards, *files, *size, "--model.rows", "64", "--trainer.max_epochs", "15", "--run", run)

    do("tune", data / "multicoil_val", "cg-sense", "--strengths", STRENGTHS, "--json", HERE / "cg-sense.json", *MASK)
    strength = str(json.loads((HERE / "cg-sense.json").read_text())["best"])
    test, outputs = data / "multicoil_test", [HERE / name for name in ("zero-filled", "cg-sense", "network")]
    do("reconstruct", test, outputs[0], "--method", "zero-filled", *MASK)
    do("reconstruct", test, outputs[1], "--method", "cg-sense", "--strength", strength, *MASK)
    do("reconstruct", test, outputs[2], "--model", run, *MASK)
    picture = HERE / "comparison.png"
    do("evaluate", test, *outputs, "--against", "cg-sense", "--json", HERE / "scores.json", "--picture", picture)
    print(f"\n{time.time() - start:.0f} s. Target, reconstructions and their errors:\n{picture.resolve()}")
    return 0


def do(*words: str | Path) -> None:
    """Run one command of mrirecon; the script ends with it if it fails."""
    line = [str(word) for word in words]
    print(f"\n$ mrirecon {' '.join(line)}", flush=True)
    code = mrirecon(line)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())

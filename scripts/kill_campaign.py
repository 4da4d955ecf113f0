"""Trainings that are killed at random batches and go on: do they end where an undisturbed one does, bit for bit?

    scripts/kill_campaign.py --json benchmarks/kills.json

One training in one process is left alone. Each of the others, in one to four processes, is killed by SIGKILL two times:
one of its processes, drawn at random, kills itself at a random batch. Each time it goes on in a number of processes
drawn anew. In the end weights, averaged weights, optimiser state and schedules are compared with the first. States are
saved at the end of every epoch and every second, so that kills come after both kinds. A line of JSON a training is kept
beside the report; those that are there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import pytorch_lightning as pl
import torch
from study import Lines, head

from mrirecon.evaluate import write_json
from mrirecon.progress import bar

KILL = "MRIRECON_CAMPAIGN_KILL"  # "rank batch", counted over all epochs
EPOCHS, BATCHES, STEPS, KILLS = 4, 12, 4, 2
SETTINGS = (
    "-c models/pgd_resnet -c train/greedy --data.sampling.accelerations [2] --data.sampling.center_fractions [0.3] "
    f"--model.net.init_args.n_steps {STEPS} --model.net.init_args.denoiser.init_args.channels 4 --model.ema 0.9 "
    f"--model.accumulate 3 --trainer.max_epochs {EPOCHS} --trainer.enable_progress_bar false "
    "--trainer.enable_model_summary false"
)


class Killer(pl.Callback):
    """Kills its own process at a batch, and takes a little time for every other one."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(0.1)
        if os.environ.get(KILL) == f"{trainer.global_rank} {trainer.current_epoch * BATCHES + batch_idx}":
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="the report; every training's line goes beside it")
    parser.add_argument("--trainings", type=int, default=20, help="how many are killed")
    options = parser.parse_args()
    lines = Lines(options.json.with_suffix(".jsonl"))
    with tempfile.TemporaryDirectory() as name, bar("killed trainings", options.trainings) as advance:
        folder = Path(name)
        for split, volumes in (("train", BATCHES // 2), ("val", 1)):
            words = f"simulate {folder}/multicoil_{split} --split {split} --volumes {volumes} --slices 2 --coils 3"
            subprocess.run([sys.executable, "-m", "mrirecon", *words.split(), "--shape", "[32,24]"], check=True)
        assert fit(folder, folder / "alone", 1, None) == 0
        for number in range(options.trainings):
            if str(number) not in lines.done:
                lines.keep(str(number), killed(folder, number))
            advance(1)
    rows = [lines.done[str(number)] for number in range(options.trainings)]
    report = {
        **head("torch", "pytorch-lightning"),
        "batches": EPOCHS * BATCHES,
        "rows": rows,
        "equal": sum(not row["different"] for row in rows),
        "resumed_inside_an_epoch": sum(k["saved_at_batch"] % BATCHES > 0 for row in rows for k in row["kills"]),
    }
    write_json(options.json, report)
    print(f"{report['equal']} of {len(rows)} killed trainings ended with the bits of an undisturbed one")
    return 0 if report["equal"] == len(rows) else 1


def killed(folder: Path, number: int) -> dict[str, Any]:
    """One training, killed and resumed; what differs in the end from the one that was left alone."""
    rng, run = Random(number), folder / f"killed{number}"
    kills: list[dict[str, Any]] = []
    batch = 0
    for _ in range(KILLS):
        processes = rng.randint(1, STEPS)
        batch = rng.randrange(batch, EPOCHS * BATCHES)
        rank = rng.randrange(processes)
        start = time.monotonic()
        code = fit(folder, run, processes, f"{rank} {batch}")
        assert code != 0, "the training was to be killed"
        kills.append({"processes": processes, "rank": rank, "batch": batch, "code": code})
        kills[-1] |= {"seconds": round(time.monotonic() - start, 1), "saved_at_batch": saved_at(run)}
    processes = rng.randint(1, STEPS)
    code = fit(folder, run, processes, None)
    different = ["exit code"] if code else difference(state(run), state(folder / "alone"))
    shutil.rmtree(run)
    return {"kills": kills, "ended_with_processes": processes, "different": different}


def fit(folder: Path, run: Path, processes: int, kill: str | None) -> int:
    often = {"folder": str(run / "checkpoints"), "minutes": 1 / 60}
    latest = {"class_path": "mrirecon.training.latest.Latest", "init_args": often}
    callbacks = [{"class_path": "kill_campaign.Killer"}, latest]
    strategy = "auto" if processes == 1 else {"class_path": "mrirecon.training.strategy.StageParallel"}
    card = folder / "card.yaml"
    trainer = {"callbacks": callbacks, "devices": processes, "strategy": strategy}
    card.write_text(json.dumps({"trainer": trainer}))  # JSON is YAML
    # A resumed run has its cards in its own settings; those of this turn come after them.
    words = ["fit", *SETTINGS.split(), "-c", str(card), "--data.path", str(folder), "--run", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment[KILL] = kill or ""
    command = [sys.executable, "-m", "mrirecon", *words, "--resume", "auto"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode and not re.search("killed by signal|died|lost", done.stderr) and done.returncode != -9:
        sys.stderr.write(done.stderr)
    return done.returncode


def saved_at(run: Path) -> int:
    """How many batches the last state has behind it; 0 if there is none."""
    last = run / "checkpoints" / "last.ckpt"
    if not last.exists():
        return 0
    position = torch.load(last, weights_only=True)["FastMRIData"]
    return position["epoch"] * BATCHES + position["batches"]


def state(run: Path) -> dict[str, Any]:
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {key: saved[key] for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")}


def difference(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two states are not the same."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [place]
    if isinstance(a, (dict, list)) and len(a) == len(b):
        pairs = [(k, a[k], b[k]) for k in (a if isinstance(a, dict) else range(len(a)))]
        return [found for k, x, y in pairs for found in difference(x, y, f"{place}/{k}")]
    return [] if a == b else [place]


if __name__ == "__main__":
    sys.exit(main())

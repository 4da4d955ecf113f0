"""scripts/greedy.slurm with a stand-in for SLURM's commands: what it asks of srun."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "greedy.slurm"
JOB = {
    "SLURM_JOB_ID": "50042",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_CPUS_PER_TASK": "8",
}
COMMANDS = {"scontrol": "printf 'n1\\nn2\\n'", "srun": 'echo "$MASTER_ADDR $MASTER_PORT $OMP_NUM_THREADS" "$@"'}


def submit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    for name, body in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    environment = os.environ | JOB | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["bash", str(SCRIPT), *words], capture_output=True, text=True, env=environment)


def test_every_task_trains_and_resumes(tmp_path: Path) -> None:
    done = submit(tmp_path, "runs/a run", "-c", "train/greedy_pipeline")
    assert done.stdout.split("\n")[0] == (
        "n1 10042 8 --kill-on-bad-exit=1 --cpus-per-task=8 mrirecon fit -c train/greedy_pipeline --run runs/a run "
        "--resume auto --trainer.num_nodes 2 --trainer.devices 4"
    )


def test_without_words_it_says_how_to_use_it(tmp_path: Path) -> None:
    done = submit(tmp_path)
    assert done.returncode != 0 and "usage: sbatch scripts/greedy.slurm RUN" in done.stderr

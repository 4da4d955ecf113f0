"""Processes that hang, or are left alone: they end by themselves, and say where they were."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HANGING = """
import time
from mrirecon.training.watch import Watch
watch = Watch("rank 1 (stages 2 to 3)", 1.0)
watch.before_end = lambda: print("children are ended", flush=True)
{place}
with watch.waiting("rank 0 (stages 0 to 1)"):
    time.sleep({seconds})
watch.stop()
time.sleep(2)
"""
PARENT = """
import subprocess, sys, os, time
child = "from mrirecon.training.watch import end_with_parent; end_with_parent(); import time; time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], env=os.environ | {"MRIRECON_PARENT": str(os.getpid())})
print(process.pid, flush=True)
time.sleep(60)
"""


def run(place: str, seconds: float) -> subprocess.CompletedProcess[str]:
    code = HANGING.format(place=place, seconds=seconds)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)


def test_a_process_that_waits_too_long_ends_and_says_where_and_for_whom() -> None:
    done = run('watch.at("in epoch 3, batch 17")', 20)
    assert done.returncode == 1 and done.stdout == "children are ended\n"
    assert done.stderr == (
        "mrirecon: rank 1 (stages 2 to 3): nothing has happened for 1 s, in epoch 3, batch 17, waiting for rank 0 "
        "(stages 0 to 1); training ends here\n"
    )


def test_time_counts_from_the_first_batch_and_not_after_the_end() -> None:
    assert run("", 2).returncode == 0
    assert run('watch.at("epoch 0, batch 0")', 0.2).returncode == 0


def test_a_process_ends_soon_after_the_one_that_started_it() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

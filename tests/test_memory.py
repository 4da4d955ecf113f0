"""Memory that is freed stays with the process, unless the user has chosen otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GIVEN_BACK = """
import sys
import numpy as np
from mrirecon.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
size = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
image = np.ones(2**24)
before = size()
del image
print(kept, before - size() > 2**26)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back by itself")
@pytest.mark.parametrize(
    ("word", "chosen", "expected"),
    [("leave", {}, "None True"), ("keep", {}, "True False"), ("keep", {"MALLOC_MMAP_MAX_": "65536"}, "False True")],
)
def test_freed_memory_stays_unless_the_environment_says_how(word: str, chosen: dict[str, str], expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if "MALLOC" not in key} | chosen
    words = [sys.executable, "-c", GIVEN_BACK, word]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected

"""README and docs are true: commands parse, Python runs, tables are those of the committed measurements."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from mrirecon.cards import locate
from mrirecon.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.split("\n")]
# mrirecon, also where torchrun starts it
COMMANDS_USED = [line[line.index("mrirecon ") :].split() for line in LINES if re.match("mrirecon |torchrun ", line)]


@cache
def help_of(name: str) -> str:
    code = f"from mrirecon.cli import main; main([{name!r}, '--help'])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("words", COMMANDS_USED, ids=" ".join)
def test_a_command_and_its_options_exist(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    _, name, *rest = words
    assert name in COMMANDS
    for flag, card in pairwise(rest):
        if flag == "-c":
            assert locate(card).is_file()
    shown = help_of(name)
    for option in (word for word in rest if word.startswith("--") and "." not in word):
        assert option in shown


def test_the_python_runs() -> None:
    for text in PAGES.values():
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, check=True)


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_tables_are_those_of_the_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    filled = importlib.import_module("readme_tables").filled
    assert all(filled(text) == text for text in PAGES.values()), "run python scripts/readme_tables.py"

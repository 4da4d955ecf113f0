"""The wheel holds the package and the cards, and installs nothing else that can be imported."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CARDS = ("datasets", "models", "train")


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built through the sdist, from a copy whose build/ holds a card of an earlier day."""
    copy = tmp_path_factory.mktemp("copy") / "mrirecon"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "runs", "quickstart")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    stale = copy / "build" / "lib" / "mrirecon" / "cards" / "models" / "renamed_since.yaml"
    stale.parent.mkdir(parents=True)
    stale.write_text("model: {}")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", copy, cwd=copy)
    (found,) = (copy / "dist").glob("*.whl")
    return found


def test_the_wheel_holds_every_module_and_card_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "mrirecon").rglob("*.py")} | {"mrirecon/py.typed"}
    cards = {f"mrirecon/cards/{path.relative_to(ROOT)}" for group in CARDS for path in (ROOT / group).iterdir()}
    assert held == code | cards


def test_no_python_is_kept_among_the_cards() -> None:
    assert not [path for group in CARDS for path in (ROOT / group).rglob("*") if path.suffix not in (".yaml", ".md")]


LOOK = """
import importlib.util, json, mrirecon
from mrirecon.cards import cards
names = [name for name in ("datasets", "models", "train") if importlib.util.find_spec(name)]
print(json.dumps({"from": mrirecon.__file__, "importable": names, "cards": sorted(cards())}))
"""


def test_an_installed_wheel_finds_its_cards_and_adds_no_other_name(wheel: Path, tmp_path: Path) -> None:
    # The third trap of this layout: a package missing from the list in pyproject.toml works in a checkout alone.
    target = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel, cwd=tmp_path)
    code = f"import sys; sys.path.insert(0, {str(target)!r})\n{LOOK}"
    seen = json.loads(run(sys.executable, "-P", "-c", code, cwd=tmp_path))
    assert seen["from"].startswith(str(target)) and seen["importable"] == []
    expected = sorted(f"{group}/{path.stem}" for group in CARDS for path in (ROOT / group).glob("*.yaml"))
    assert seen["cards"] == expected
    modules = [str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in ROOT.glob("mrirecon/**/*.py")]
    modules = sorted(name.removesuffix(".__init__") for name in modules if not name.endswith("__main__"))
    everything = f"import sys; sys.path.insert(0, {str(target)!r})\nimport {', '.join(modules)}"
    run(sys.executable, "-P", "-c", everything, cwd=tmp_path)


def test_the_editable_install_adds_no_other_name(tmp_path: Path) -> None:
    seen = json.loads(run(sys.executable, "-P", "-c", LOOK, cwd=tmp_path))
    if seen["from"] != str(ROOT / "mrirecon" / "__init__.py"):
        pytest.skip(f"mrirecon is not installed in editable mode here, but from {seen['from']}")
    assert seen["importable"] == []


def test_torchvision_is_not_in_the_environment() -> None:
    # Beside a CPU build of torch it breaks torchmetrics, which Lightning imports.
    assert importlib.util.find_spec("torchvision") is None


def test_torch_is_constrained_without_a_build() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines and not any("+cpu" in line for line in lines if not line.startswith("#"))

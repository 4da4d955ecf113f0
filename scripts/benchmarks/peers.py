"""The peers' own environment, ``.peers`` in the repository root: other packages to measure against, never dependencies.

deepinv and mrpro import torchvision, which breaks beside a CPU build of torch and which no benchmark uses. A stand-in
of that name, whose submodules answer any name with an empty class, satisfies both pip and the imports.
"""

from __future__ import annotations

import subprocess
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".peers"
PYTHON = FOLDER / "bin" / "python"
PACKAGES = ("sigpy", "deepinv", "mrpro", "fastmri", "requests")  # fastmri imports requests without saying so

STAND_IN_PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "torchvision"
version = "0.99"
[tool.setuptools]
packages = ["torchvision", "torchvision.transforms", "torchvision.datasets"]
"""
STAND_IN_MODULES = (
    "__init__.py",
    "utils.py",
    "transforms/__init__.py",
    "transforms/functional.py",
    "datasets/__init__.py",
    "datasets/folder.py",
    "datasets/utils.py",
)
STAND_IN = """\
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
"""


def set_up() -> None:
    """Make or complete the environment: torch as in constraints.txt, the stand-in, this package, then the peers."""
    if not PYTHON.exists():
        venv.create(FOLDER, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "torch"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        write_stand_in(Path(folder))
        subprocess.run([*pip, folder], check=True)
    subprocess.run([*pip, "--editable", str(ROOT), *PACKAGES], check=True)


def write_stand_in(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(STAND_IN_PROJECT)
    for name in STAND_IN_MODULES:
        module = folder / "torchvision" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(STAND_IN)

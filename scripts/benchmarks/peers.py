"""The peers' own environments in ``.peers`` in the repository root: packages to measure against, never dependencies.

``.peers`` itself has the peers of operators and loader, ``.peers/pyscnn`` the one of convex, which is smaller.

deepinv, mrpro and pyscnn import torchvision, which breaks beside a CPU build of torch and which no benchmark uses. A
stand-in of that name, whose submodules answer any name with an empty class, satisfies both pip and the imports.
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

PYSCNN_FOLDER = FOLDER / "pyscnn"
PYSCNN_PYTHON = PYSCNN_FOLDER / "bin" / "python"
PYSCNN = ("pyscnn==0.0.10", "linalg_backends==0.0.1b0")  # without what they ask for, which is a released torchvision
PYSCNN_NEEDS = ("numpy", "cvxpy", "scikit-learn", "opt_einsum", "tqdm")

STAND_IN_PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "torchvision"
version = "0.28"
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


def set_up(benchmark: str) -> None:
    """Make or complete the environment of a benchmark's peers."""
    if benchmark == "convex":
        pip = with_torch(PYSCNN_FOLDER)
        subprocess.run([*pip, *PYSCNN_NEEDS], check=True)
        subprocess.run([*pip, "--no-deps", *PYSCNN], check=True)
    else:
        subprocess.run([*with_torch(FOLDER), "--editable", str(ROOT), *PACKAGES], check=True)


def with_torch(folder: Path) -> list[str]:
    """Make the environment, with torch as in constraints.txt and the stand-in; gives the command that installs more."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "torch"], check=True)
    with tempfile.TemporaryDirectory() as stand_in:
        write_stand_in(Path(stand_in))
        subprocess.run([*pip, stand_in], check=True)
    return pip


def write_stand_in(folder: Path) -> None:
    (folder / "pyproject.toml").write_text(STAND_IN_PROJECT)
    for name in STAND_IN_MODULES:
        module = folder / "torchvision" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(STAND_IN)

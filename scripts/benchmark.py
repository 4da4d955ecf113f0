"""What mrirecon costs, measured in one run: scripts/benchmark.py NAME [--json FILE] [--setup-peers].

``greedy`` compares ways of training, ``denoisers`` scale-equivariant with ordinary denoisers; ``operators``,
``loader`` and ``convex`` stand beside peers, which live in environments of their own, made by --setup-peers (.peers,
about 2 GB, and .peers/pyscnn for convex, 1.4 GB). ``operators`` and ``loader`` measure both sides in it, in one
process; ``convex`` every side in a process of its own. Peers that are not installed are named as missing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Report, show, write_json

from benchmarks import peers
from mrirecon.memory import keep_freed_memory

BESIDE_PEERS = ("operators", "loader")
NAMES = (*BESIDE_PEERS, "greedy", "denoisers", "convex")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES, help="what to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions, rows and goals to FILE")
    parser.add_argument("--setup-peers", action="store_true", help="first install the benchmark's peers into .peers")
    arguments = parser.parse_args()
    if arguments.setup_peers:
        peers.set_up(arguments.name)
    if arguments.name in BESIDE_PEERS and peers.PYTHON.exists() and Path(sys.prefix).resolve() != peers.FOLDER:
        sys.exit(in_peers_environment(arguments))
    keep_freed_memory()  # as the commands do
    report: Report = importlib.import_module(f"benchmarks.{arguments.name}").measure()
    show(report)
    if arguments.json:
        write_json(report, arguments.json)


def in_peers_environment(arguments: argparse.Namespace) -> int:
    """Run this script again with the peers' interpreter, and this checkout first on its path."""
    command = [str(peers.PYTHON), str(Path(__file__).resolve()), arguments.name]
    if arguments.json:
        command += ["--json", str(arguments.json)]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": str(peers.ROOT)}).returncode


if __name__ == "__main__":
    main()

"""The command line: `mrirecon COMMAND`. Only the chosen command is imported, so that help is quick."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from importlib import import_module

from mrirecon import __version__
from mrirecon.errors import InputError, ProcessLost
from mrirecon.memory import keep_freed_memory
from mrirecon.training.watch import PARENT, end_with_parent

COMMANDS = {
    "simulate": "write multi-coil volumes with known truth, in fastMRI layout",
    "fit": "train a network from YAML cards",
    "convex-fit": "train convex denoisers stage by stage, each a program of its own with a certificate",
    "validate": "score a trained network on the validation files",
    "test": "score a trained network on the test files",
    "predict": "reconstruct the prediction files of a data card",
    "reconstruct": "reconstruct h5 files with a trained network or a classical method",
    "explain": "show what convex dual denoisers do with a slice: filters, clusters of pixels, active groups",
    "evaluate": "score reconstructions against targets: NMSE, PSNR, SSIM",
    "tune": "find the strength at which a classical method is best on given files",
    "cards": "list the cards that ship with mrirecon",
}
LIGHTNING = ("fit", "convex-fit", "validate", "test", "predict")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if all went well, 1 if part of the work failed, 2 if nothing could start."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    # The message alone: where in our code it was raised tells a user nothing.
    warnings.formatwarning = lambda message, *_, **__: f"mrirecon: {message}\n"
    try:
        if name in ("-h", "--help", "--version"):
            print(f"mrirecon {__version__}" if name == "--version" else overview())
            return 0
        if "" in rest:
            raise InputError("a word of the command line is empty; is a variable of the shell not set?")
        if name not in COMMANDS:
            print(f"mrirecon: there is no command {name!r}\n\n{overview()}", file=sys.stderr)
            return 2
        if PARENT in os.environ:
            end_with_parent()
        keep_freed_memory()
        if name in LIGHTNING:
            return int(import_module("mrirecon.commands.fit").main(name, rest))
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
        from mrirecon.commands.call import call

        return call(getattr(import_module(f"mrirecon.commands.{name}"), name), name, rest)
    except ProcessLost as error:
        print(f"mrirecon {name}: {error}; training ends here", file=sys.stderr)
        return 1
    except InputError as error:
        let_the_first_speak()
        # From a worker process the message comes wrapped in that process's traceback.
        print(f"mrirecon {name}: {str(error).rsplit('InputError: ', 1)[-1].strip()}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
            sys.stderr.close()
            return 0
        print(f"mrirecon {name}: {error}; check the path, the space on the disk and the rights", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not of_memory(error):
            raise
        said = str(error).split("\n")[0].split(". GPU ")[0]  # torch goes on with advice about its allocator
        print(f"mrirecon {name}: not enough memory ({said}); ask for smaller sizes or batches", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        let_the_first_speak()
        print(f"mrirecon {name}: interrupted", file=sys.stderr)
        return 130


def of_memory(error: Exception) -> bool:
    """Whether there was too little of it, on a GPU or, as torch's allocator says it, on the CPU."""
    words = "OutOfMemoryError", "can't allocate memory", "not enough memory"
    return isinstance(error, MemoryError) or any(word in f"{type(error).__name__}: {error}" for word in words)


def let_the_first_speak() -> None:
    """What all processes of a training object to, the first one says; it then ends the others."""
    if PARENT in os.environ:
        time.sleep(3)


def overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mrirecon COMMAND [options]",
            "",
            "Learned MRI reconstruction: from measured k-space to a trained network and back to image files.",
            "",
            *lines,
            "",
            "`mrirecon COMMAND --help` explains a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

"""A typed function as a command: its parameters are the options, its docstring is the help."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Sequence
from math import isfinite
from pathlib import Path

from docstring_parser import parse
from jsonargparse import ArgumentParser, DefaultHelpFormatter


class Help(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Options as jsonargparse has them, below the docstring in its own lines."""


def call(command: Callable[..., int], name: str, argv: Sequence[str]) -> int:
    """Parse the arguments of a typed function and call it.

    Parameters without default are positional, and the last of them may be a ``list[Path]``, one or more paths.
    """
    paths = [key for key, hint in command.__annotations__.items() if hint == "list[Path]"]
    docstring = parse(command.__doc__ or "")
    parser = ArgumentParser(
        prog=f"mrirecon {name}",
        usage=f"mrirecon {name} [options]",
        description=docstring.description,
        formatter_class=Help,
    )
    parser.add_function_arguments(command, as_group=False, as_positional=True, skip=set(paths))
    described = {param.arg_name: param.description for param in docstring.params}
    for key in paths:
        parser.add_argument(key, type=Path, nargs="+", help=described[key])
    several = ("list[float]", "list[int]", "tuple[float, ...]")
    lists = {f"--{name}" for name, hint in command.__annotations__.items() if any(kind in hint for kind in several)}
    arguments = parser.parse_args(joined(_with_values(argv, command), lists))
    return command(**parser.instantiate(arguments).as_dict())


def _with_values(argv: Sequence[str], command: Callable[..., int]) -> list[str]:
    """A switch may stand alone: ``--overwrite`` means ``--overwrite true``."""
    switches = {f"--{name}" for name, hint in command.__annotations__.items() if hint == "bool"}
    words: list[str] = []
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        words.append(word)
        if word in switches and following not in ("true", "false"):
            words.append("true")
    return words


def joined(argv: Sequence[str], options: Collection[str]) -> list[str]:
    """Numbers after an option that takes a list: ``4 8``, ``4,8`` and ``[4,8]`` are one."""
    words: list[str] = []
    split = [part for word in argv for part in (word.split("=", 1) if word.split("=")[0] in options else [word])]
    for word in split:
        if words and words[-1] in options and _are_numbers(word):
            words.append(f"[{word}]")
        elif len(words) > 1 and words[-2] in options and _are_numbers(word):
            words[-1] = f"{words[-1].removesuffix(']')},{word}]"
        else:
            words.append(word)
    return words


def _are_numbers(word: str) -> bool:
    try:
        return all(map(isfinite, map(float, word.split(","))))
    except ValueError:
        return False

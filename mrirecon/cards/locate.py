"""Where a card is: a path, or the name of one that ships with the package, such as ``models/pgd_resnet``."""

from __future__ import annotations

from pathlib import Path

from mrirecon.errors import InputError

GROUPS = ("datasets", "models", "train")


def roots() -> list[Path]:
    """Folders that may hold the three groups: this one in an installed wheel, the repository's root in a checkout.

    The second counts only if it has our `pyproject.toml`: above `site-packages` could lie other people's `datasets/`.
    """
    here = Path(__file__).resolve().parent
    repository = here.parents[1]
    project = repository / "pyproject.toml"
    ours = project.is_file() and 'name = "mrirecon"' in project.read_text(encoding="utf-8")
    return [here, repository] if ours else [here]


def cards() -> dict[str, Path]:
    """Every shipped card by its name, ``group/name``."""
    found: dict[str, Path] = {}
    for root in roots():
        for group in GROUPS:
            for path in sorted((root / group).glob("*.yaml")):
                found.setdefault(f"{group}/{path.stem}", path)
    return found


def locate(card: str) -> Path:
    """The file of a card: an existing path, else a shipped card by name, with or without group and ``.yaml``."""
    if Path(card).exists() and not Path(card).is_dir():
        return Path(card)
    name = card.removesuffix(".yaml")
    shipped = cards()
    matches = [path for key, path in shipped.items() if name in (key, key.split("/")[1])]
    if len(matches) != 1:
        known = "\n  ".join(shipped)
        raise InputError(f"there is no card {card!r}; give the path of a YAML file, or one of\n  {known}")
    return matches[0]

"""List the cards that ship with the package."""

from __future__ import annotations

from mrirecon.cards import cards as shipped


def cards() -> int:
    """List the cards that ship with mrirecon, with the first line of each.

    A card is used by its name: `mrirecon fit -c datasets/phantom -c models/pgd_resnet -c train/greedy`. Copy one and
    change it to make your own; it is then used by its path.
    """
    found = shipped()
    width = max(map(len, found))
    for name, path in found.items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(f"{name:<{width}}  {first}")
    return 0

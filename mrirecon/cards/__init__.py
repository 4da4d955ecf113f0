"""Cards: the YAML files of `datasets/`, `models/` and `train/`, shipped with the package and found by name."""

from mrirecon.cards.locate import cards, locate

__all__ = ["cards", "locate"]

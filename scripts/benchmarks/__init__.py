"""What ``scripts/benchmark.py`` measures: one module per name, each with ``measure() -> Report``."""

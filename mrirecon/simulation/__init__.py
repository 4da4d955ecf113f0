"""Multi-coil volumes with known truth: random anatomy-like phantoms, seen by random coils, with correlated noise."""

"""Training: where the gradient stops, and the Lightning module that follows it."""

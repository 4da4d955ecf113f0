"""Convex programs of gated denoisers, their solvers and certificates. They know nothing of MRI or of Lightning."""

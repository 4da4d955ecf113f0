"""mrirecon: learned MRI reconstruction, from measured k-space to a scored image and back to a file."""

__version__ = "0.1.0"

"""What the denoisers of a network do with an image: active groups, clusters of pixels, and the filter at any pixel."""

from mrirecon.explain.explanation import NONE, Explanation, explain, frequency_response

__all__ = ["NONE", "Explanation", "explain", "frequency_response"]

"""One file a command, a typed function whose docstring is its help; and what several of them share."""

"""One file a command: a typed function whose docstring is its help. Heavy modules are imported when it runs."""

"""`python -m mrirecon` is the command `mrirecon`."""

import sys

from mrirecon.cli import main

sys.exit(main())

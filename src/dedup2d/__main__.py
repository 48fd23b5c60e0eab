"""`python -m dedup2d` is the command."""

import sys

from dedup2d.cli import main

if __name__ == "__main__":
    sys.exit(main())

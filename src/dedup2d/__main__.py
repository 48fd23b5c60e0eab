"""`python -m dedup2d` is the command."""

from dedup2d.cli import main

if __name__ == "__main__":
    main()

"""``python -m theriac`` is the command ``theriac``."""

from .cluster.cli import main

if __name__ == "__main__":
    main()

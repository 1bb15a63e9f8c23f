"""Datasets: record demonstrations, render pictures, fetch published ones: `python scripts/data.py --help`.

The same as `vla data`.
"""

import sys

from vla.commands.data import PROGRAM


def main(words: list[str]) -> int:
    """Run the sub-command that the first word names; returns the exit code."""
    return PROGRAM.run(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

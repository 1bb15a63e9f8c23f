"""Write and take over checkpoints in the layouts of published code bases: `python scripts/convert.py --help`.

The same as `vla convert`.
"""

import sys

from vla.commands.convert import PROGRAM


def main(words: list[str]) -> int:
    """Run the sub-command that the first word names; returns the exit code."""
    return PROGRAM.run(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

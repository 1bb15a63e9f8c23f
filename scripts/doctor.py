"""What works on this machine, and what to do about the rest: `python scripts/doctor.py`. The same as `vla doctor`."""

import sys

from vla.commands.doctor import PROGRAM

if __name__ == "__main__":
    sys.exit(PROGRAM.run(sys.argv[1:]))

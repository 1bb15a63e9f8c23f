"""`python -m vla` is the command `vla`, for launchers too: `torchrun --nproc_per_node 2 -m vla train ...`."""

import sys

from vla.commands.main import main

if __name__ == "__main__":
    sys.exit(main())

"""Serve a policy to robots and simulators: HTTP as OpenVLA's clients speak it, a WebSocket as openpi's do.

    python scripts/serve.py --checkpoint runs/my-run
    python scripts/serve.py --policy zero --port 8000                # nothing is loaded: to try a client
    python scripts/serve.py --checkpoint runs/my-run --host 0.0.0.0 --token_file token.txt --max_batch 8
    python scripts/serve.py --help

The address, opened in a browser, shows what the policy sees and does. Ctrl-C or SIGTERM stops it once everything that
waits is answered. The same as `vla serve`.
"""

import sys

from vla.commands.serve import PROGRAM

if __name__ == "__main__":
    sys.exit(PROGRAM.run(sys.argv[1:]))

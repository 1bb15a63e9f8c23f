"""Chat with a vision-language model about local pictures.

    python scripts/generate.py --model prism-dinosiglip+7b --image kitchen.jpg
    python scripts/generate.py --model runs/vqa-finetune --image blocks.png --prompt "How many cubes are there?"
    python scripts/generate.py --help

The model is an id with released weights, or the folder of a run. In the chat, /help lists the commands. The same as
`vla chat`.
"""

import sys

from vla.commands.chat import PROGRAM

if __name__ == "__main__":
    sys.exit(PROGRAM.run(sys.argv[1:]))

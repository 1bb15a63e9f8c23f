"""scripts/pretrain.py in which a process dies once: `python dying_program.py RANK STEP OTHERS ARGUMENT...`.

When STEP steps are done and the next one is about to be counted, process RANK of the first start is killed (SIGKILL).
OTHERS: `train`: the others go on, into what all processes do together; `sleep`: they stand still, as in a collective
that never returns.
"""

import os
import runpy
import signal
import sys
import time

from groups import ROOT

from vla.overwatch.launch import read_launch, restart_count
from vla.training.state import TrainerState

advance = TrainerState.advance


def advance_or_die(state: TrainerState) -> None:
    if state.global_step == STEP:
        if read_launch().rank == RANK:
            os.kill(os.getpid(), signal.SIGKILL)
        while OTHERS == "sleep":
            time.sleep(1)
    advance(state)


if __name__ == "__main__":
    RANK, STEP, OTHERS = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if restart_count() == 0:
        TrainerState.advance = advance_or_die
    sys.argv = ["pretrain.py", *sys.argv[4:]]
    runpy.run_path(str(ROOT / "scripts" / "pretrain.py"), run_name="__main__")

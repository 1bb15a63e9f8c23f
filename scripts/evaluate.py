"""Evaluate a trained model on its held-out data, or, with --suite, acting in the LIBERO simulator, or, with
--questions, by what it answers about pictures, or, with --lmms_tasks, on benchmarks of lmms-eval. With
--false_alarm_rate, give an anomaly detector that watches policies its threshold.

    python scripts/evaluate.py --checkpoint runs/quickstart
    python scripts/evaluate.py --checkpoint runs/quickstart/checkpoints/step-000120 --max_batches 4
    python scripts/evaluate.py --checkpoint runs/quickstart --suite libero-object --episodes 20 --workers 2
    python scripts/evaluate.py --suite libero-object --policy expert --tasks 0,3 --episodes 5
    python scripts/evaluate.py --suite libero-object --help
    python scripts/evaluate.py --checkpoint runs/watcher --false_alarm_rate 0.1
    python scripts/evaluate.py --checkpoint runs/libero-object --suite libero-object --watcher runs/watcher --faults all
    python scripts/evaluate.py --checkpoint runs/vqa-finetune --questions data/vqa-rendered/validation.json
    python scripts/evaluate.py --checkpoint runs/nanovlm --lmms_tasks mmstar,ocrbench --limit 100

Open loop compares predictions with demonstrations. Closed loop counts successes after a self-audit of simulator and
checkpoint; it goes on where an earlier call with the same options was interrupted. Both rewrite the run's report.html.
The same as `vla evaluate`.
"""

import sys

from vla.commands.evaluate import PROGRAM

if __name__ == "__main__":
    sys.exit(PROGRAM.run(sys.argv[1:]))

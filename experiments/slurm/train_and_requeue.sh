# Sourced by the batch scripts: trains, and puts the job back into the queue if it was stopped before it was done.
#
# Exit code 75 says: stopped by a signal, saved, more to do. Any other code than 0 is a failure that would come again.
# srun starts the processes itself (torchrun would swallow the signal and the code); --kill-on-bad-exit=0 leaves it to
# the processes to end together: they notice within seconds when one is gone, and a save that is being written is
# finished.

cd "${SLURM_SUBMIT_DIR:-.}" || exit 1
if [ -f .venv/bin/activate ]; then
  source .venv/bin/activate
fi

srun --kill-on-bad-exit=0 python scripts/pretrain.py "$@" --resume auto
code=$?
if [ "$code" -eq 75 ]; then
  echo "stopped and saved; job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

#!/bin/bash
# A sweep as one Slurm job: Ray on every node of the allocation, `theriac sweep` on the first, all gone at the end.
#
# Fill in the places marked CHANGE, install theriac once where all nodes see it, then from a folder that all see:
#   python3 -m venv ~/theriac-env && ~/theriac-env/bin/pip install <the wheel>
#   sbatch slurm.sh
# docs/clusters/README.md says how to watch, stop and resume it.

#SBATCH --job-name=theriac
#SBATCH --output=theriac-%j.log
# CHANGE: how many nodes, and what each has (without the line for GPUs it runs on CPUs)
#SBATCH --nodes=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
# CHANGE, together with STOP_AFTER
#SBATCH --time=24:00:00
#SBATCH --mem=0
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
# --exclusive is needed: at its end symmetric-run calls `ray stop`, which stops every Ray of yours on the node.
# --requeue: when a node fails, Slurm starts the job again, which goes on with the cells that are missing.

set -euo pipefail
umask 077

environment=$HOME/theriac-env           # CHANGE: seen by all nodes
shared=$SLURM_SUBMIT_DIR                # CHANGE if you do not submit from a folder that all nodes see
export SWEEP=$shared/my_sweep.yaml      # CHANGE: a sweep file, or the name of a preset
export RESULTS=$shared/results          # --store is not given: models and importances lie here, too
export THERIAC_DATA=$shared/data
export STOP_AFTER=23h                   # CHANGE: --time less the longest cell, which may finish
export OUTCOME=$shared/theriac-$SLURM_JOB_ID.exit

. "$environment/bin/activate"

# One token for all nodes, in the home they share; without a shared home: export RAY_AUTH_TOKEN=... here.
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null
chmod 600 ~/.ray/auth_token

# The first node, on which this script runs, becomes the head. It is named by address, since symmetric-run compares
# it with the addresses of the interfaces, and on many systems a node's own name leads to 127.0.1.1.
addresses=$(hostname --all-ip-addresses)
export ADDRESS=${addresses%% *}:6379     # CHANGE if the nodes reach each other by another one

# 30 s are short for nodes that read Python from a shared disk.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600

# INT is what Ctrl-C sends: theriac finishes the running cells and saves. timeout then reports 124.
sweep() {
  code=0
  timeout --foreground --signal=INT "$STOP_AFTER" \
    theriac sweep "$SWEEP" --results "$RESULTS" --address auto || code=$?
  echo "$code" > "$OUTCOME"
}

# symmetric-run starts the head on the first node and workers on the others, waits for all of them, and runs the
# sweep on the head. When the head stops, workers would wait for it for minutes; here they look for its last word.
# It ends with 0 even if Ray did not start: then there is none, and 1 is written.
on_node() {
  if [ "$SLURM_PROCID" = 0 ]; then
    ray_here # not in the background, where bash makes programs deaf to INT
    [ -s "$OUTCOME" ] || echo 1 > "$OUTCOME"
  else
    ray_here &
    until [ -s "$OUTCOME" ]; do sleep 5; done
    ray stop # and Slurm ends what is left of this step
  fi
}
ray_here() {
  ray symmetric-run --address "$ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --dashboard-host=127.0.0.1 --disable-usage-stats \
    -- bash -c sweep
}
export -f sweep ray_here on_node

# A node whose Ray ends early must not end the others: the sweep goes on with what is left.
rm -f "$OUTCOME"
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=0 bash -c on_node ||
  echo "srun ended with $?" >&2
code=$(cat "$OUTCOME")
rm -f "$OUTCOME"
theriac status "$RESULTS"
if [ "$code" = 124 ]; then
  echo "time is up; queued again to go on"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

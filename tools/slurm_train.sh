#!/usr/bin/env bash
# Train on one or many machines of a Slurm cluster, and go on by itself after the time limit or a preemption:
#
#     sbatch tools/slurm_train.sh CONFIG [-o KEY=VALUE]... [--out DIR]
#     sbatch --nodes=2 --gpus-per-node=8 tools/slurm_train.sh CONFIG
#
# Submit it from the repository's folder, which all machines must see, as they must the folder of the results. What to
# change, here or as options of sbatch: machines, GPUs, time, and what your cluster requires (--partition, --account).
# One task a machine: torchrun starts the processes, one a GPU.

#SBATCH --job-name=segmnv2
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=10
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the limit, to this script alone. A preempted job is requeued by Slurm itself, if the cluster allows.
#SBATCH --signal=B:USR1@120

set -euo pipefail

fail() {
    echo "slurm_train.sh: $1" >&2
    exit 2
}

[ $# -gt 0 ] || fail "no CONFIG; sbatch tools/slurm_train.sh CONFIG [-o KEY=VALUE]..."
[ -n "${SLURM_JOB_ID:-}" ] || fail "this is no Slurm job; submit it with sbatch, or run torchrun yourself"
[ -f tools/train.py ] || fail "$PWD holds no tools/train.py; submit it from the repository's folder"

# The environment with segmnv2 in it; replace by what your cluster needs (module load, conda activate).
if [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi

# Processes a machine: its GPUs, or PROCESSES where that is set.
processes="${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}"
# The machines meet at the first one, at a port of the job's own.
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
endpoint="${hosts%%$'\n'*}:${PORT:-$((20000 + SLURM_JOB_ID % 10000))}"
# Since Slurm 22.05 srun no longer takes it from the job.
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

# Slurm restarts the job under its number, with the same words, and --resume auto resumes from the latest state. What was
# learned since then is lost: -o checkpoint.every=N bounds it. If Slurm refuses, training continues up to the limit.
# shellcheck disable=SC2329  # called by the trap
requeue() {
    echo "slurm_train.sh: the time is nearly over, so job $SLURM_JOB_ID is requeued"
    if scontrol requeue "$SLURM_JOB_ID"; then
        [ -z "$training" ] || kill -TERM "$training" 2>/dev/null || true
    else
        echo "slurm_train.sh: it could not be requeued; submit it again by hand to go on" >&2
    fi
}
training=""
trap requeue USR1

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" \
    --nproc-per-node "$processes" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$endpoint" \
    tools/train.py "$@" --resume auto &
training=$!

# A signal ends `wait` early, with the job still there.
status=0
wait "$training" || status=$?
while kill -0 "$training" 2>/dev/null; do
    status=0
    wait "$training" || status=$?
done
exit "$status"

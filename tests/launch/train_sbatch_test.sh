#!/usr/bin/env bash
# launch/train.sbatch with stand-ins for mpirun, scontrol and terroir: signals reach the ranks, and every exit code leads
# to the promised answer.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
ln -s "$root/launch" launch
readonly script=launch/train.sbatch

stand_in() {
  printf '#!/bin/bash\n%s\n' "$2" > "$1"
  chmod +x "$1"
}
# shellcheck disable=SC2016  # expands in the stand-in
# Ends with 75 when told to save, else with what the test says after what time.
stand_in mpirun 'trap "exit 75" USR1; touch started; for i in $(seq "${RUN_TENTHS:-0}"); do sleep 0.1; done; exit "$END_WITH"'
stand_in scontrol 'echo "$@" >> scontrol.log'
stand_in terroir 'printf "run:\n  name: \"2024\"\n  dir: my runs\nother:\n  name: wrong\n"'
export PATH=$folder:$PATH TERROIR=$folder/terroir SLURM_JOB_ID=17

fail() { echo "FAILED: $*"; exit 1; }
requeues() { grep -c 'requeue 17' scontrol.log || true; }

# expect CODE REQUEUES: runs the script to its end.
expect() {
  local status=0
  : > scontrol.log
  bash "$script" config.yaml &> log || status=$?
  ((status == $1)) || fail "ended with $status instead of $1: $(cat log)"
  [[ $(requeues) == "$2" ]] || fail "requeued $(requeues) times instead of $2 after exit $1"
}

END_WITH=0 expect 0 0
END_WITH=2 expect 2 0
END_WITH=6 expect 6 0
END_WITH=75 expect 75 1

# Three restarts are allowed as long as no newer checkpoint appears, and three more after one did.
for checkpoint in step-00000100 step-00000200; do
  mkdir -p "my runs/2024/checkpoints/$checkpoint"
  for _ in 1 2 3; do
    END_WITH=7 expect 7 1
  done
done
END_WITH=7 expect 93 0

for signal in USR1 TERM; do
  rm -f started; : > scontrol.log
  END_WITH=1 RUN_TENTHS=100 bash "$script" config.yaml &> log &
  pid=$!
  until [[ -e started ]]; do sleep 0.05; done
  kill -"$signal" "$pid"
  status=0
  wait "$pid" || status=$?
  ((status == 75)) || fail "ended with $status after $signal"
  [[ $(requeues) == 1 ]] || fail "not requeued after $signal"
done

status=0
bash "$script" &> log || status=$?
((status == 2)) || fail "no configuration: ended with $status"

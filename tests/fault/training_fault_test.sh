#!/usr/bin/env bash
# Training on four MPI ranks under kill -9, freezes and signals: nothing lost, nothing hangs, the same bits.
#
#   training_fault_test.sh TERROIR MPIEXEC SOURCE_DIR [KILLS]
set -euo pipefail
terroir=$1 mpiexec=$2 source=$3 kills=${4:-6}
work=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2> /dev/null || true; rm -rf "$work"' EXIT
cd "$work"

fail() {
  echo "FAILED: $*" >&2
  tail -n 5 "$work"/*.log >&2 || true
  exit 1
}

"$terroir" --quiet tokenizer train --vocab-size 600 --pretokenizer llama-3 --out tokenizer.json "$source"/data/samples/{ko,tl}.txt
for language in ko tl; do
  "$terroir" --quiet data build --tokenizer tokenizer.json --language $language --license Apache-2.0 --source $language \
    --out shards "$source/data/samples/$language.txt" > /dev/null
done
cat > config.yaml << 'YAML'
run: {name: whole}
model: {hidden_size: 48, intermediate_size: 96, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2,
        vocab_size: from_tokenizer}
tokenizer: tokenizer.json
data:
  sequence_length: 64
  stages: [{sources: {ko: 0.5, tl: 0.5}}]
  sources: {ko: {shards: "shards/ko-*.h5"}, tl: {shards: "shards/tl-*.h5"}}
parallel: {tensor: 2, pipeline: 2, timeout_s: 60}
train: {steps: 300, global_batch_size: 8, micro_batch_size: 2, threads: 1}
schedule: {name: constant}
checkpoint: {every: 10, keep_last: 2}
YAML

# Not a function: in the background its process must be mpiexec itself, whose children are the ranks.
train=("$mpiexec" -np 4 "$terroir" train config.yaml)
ranks() { pgrep -P "$1" || true; }
# Every step's loss, as the last line of the step says.
losses() { sed -nE '/validation/d;s/.*"step": ?([0-9]+),.*"loss": ?([-0-9.e]+),.*/\1 \2/p' "runs/$1/metrics.jsonl" |
  awk '{ loss[$1] = $2 } END { for (step in loss) print step, loss[step] }' | sort -n; }
gone() {
  for _ in $(seq 50); do
    pgrep -f "$terroir train config.yaml" > /dev/null || return 0
    sleep 0.1
  done
  return 1
}

"${train[@]}" > whole.log 2>&1 || fail "the undisturbed run"
[[ $(losses whole | wc -l) == 300 ]] || fail "the undisturbed run has $(losses whole | wc -l) steps"

# 1. SIGKILL of a random rank at random times; the same command again each time.
killed=0
for ((kill_number = 1; kill_number <= kills; ++kill_number)); do
  "${train[@]}" run.name=killed > killed.log 2>&1 &
  job=$!
  sleep "1.$((RANDOM % 9))"
  mapfile -t victims < <(ranks $job)
  if ((${#victims[@]} == 4)) && kill -9 "${victims[RANDOM % 4]}" 2> /dev/null; then killed=$((killed + 1)); fi
  wait $job && break || true
  gone || fail "ranks survived the death of one"
done
((killed >= 2)) || fail "only $killed ranks could be killed before the run was done: it is too short"
"${train[@]}" run.name=killed > killed.log 2>&1 || fail "the run after $killed kills"
diff <(losses whole) <(losses killed) > /dev/null || fail "losses differ after kills"
"$terroir" checkpoint diff runs/whole runs/killed > diff.log || fail "checkpoints differ after kills"
echo "$killed kills: the same losses and weights, bit for bit"

# 2. A frozen rank: everyone leaves within the deadline, with 7 and a sentence.
"${train[@]}" run.name=frozen parallel.timeout_s=2 train.steps=100000 > frozen.log 2>&1 &
job=$!
until [[ -s runs/frozen/metrics.jsonl ]]; do sleep 0.1; done
kill -STOP "$(ranks $job | head -n 1)"
SECONDS=0
code=0
wait $job || code=$?
((code == 7)) || fail "a frozen rank gave exit $code, not 7"
((SECONDS <= 20)) || fail "a frozen rank was noticed after $SECONDS s"
gone || fail "a rank was left behind a frozen one"
grep -qE 'rank [0-9].*step [0-9]+.*(all_|reduce_|send|recv|gather|broadcast)' frozen.log || fail "the message names no rank, step and collective"
echo "freeze: exit 7 after $SECONDS s"

# 3. SIGUSR1 to mpirun: saved, exit 75, and a second job on the folder is refused meanwhile.
"${train[@]}" run.name=asked train.steps=100000 checkpoint.every=0 > asked.log 2>&1 &
job=$!
until [[ -s runs/asked/metrics.jsonl ]]; do sleep 0.1; done
code=0
"${train[@]}" run.name=asked train.steps=100000 > second.log 2>&1 || code=$?
((code == 2)) || fail "a second job on the same folder gave exit $code, not 2"
grep -q 'another process' second.log || fail "the second job's refusal does not say why"
kill -USR1 $job
code=0
wait $job || code=$?
((code == 75)) || fail "SIGUSR1 gave exit $code, not 75"
[[ -n $(ls runs/asked/checkpoints) ]] || fail "SIGUSR1 saved nothing"
echo "signal: saved, exit 75"

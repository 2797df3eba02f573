#!/usr/bin/env bash
# Checks Terroir on a machine with an NVIDIA GPU, from inside an unpacked bundle (launch/bundle.sh) or a built checkout.
#
#   launch/gpu_check.sh [--limit SECONDS] [STAGE ...]      all stages, or those named, in this order:
#
#   ops         every op's tests on the GPU, against the reference
#   steps       the same training steps on the CPU and on the GPU: losses compared
#   shared      two and four ranks that share the GPU through host memory: losses as those of one rank
#   nccl        the NCCL transport, one rank
#   sanitizer   op tests under compute-sanitizer
#   bench       every op, forward and backward: TB/s or TFLOP/s, and their share of what the card does at best
#   train       models of 124M, 1.5B and 3B parameters, beside PyTorch where Python has it: tokens/s, MFU (with what
#               causal attention computes, and as if it computed all), time by part of a step, memory by kind
#
#   --limit     seconds a stage may take, default 540
#
# CUDA's libraries may be installed in the system or lie in Python's packages (site-packages/nvidia/*/lib). Writes
# results.json, log.txt and bench.json into $OUT, default ./gpu-check. A failure does not stop what follows.
# Exit status: 0 passed, 1 something failed, 2 no GPU, wrong usage, or nothing of what was asked could be checked.
set -uo pipefail
called_from=$PWD
cd "$(dirname "$0")/.." || exit
# shellcheck source=launch/local_mpi.sh
source launch/local_mpi.sh || exit
# shellcheck source=launch/op_tests.sh
source launch/op_tests.sh || exit
# shellcheck source=launch/ranks.sh
source launch/ranks.sh || exit

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

readonly STAGES=(ops steps shared nccl sanitizer bench train)
# Relative difference of a loss within ten steps, in f32: the order of sums differs, and a GPU's exp and rsqrt in the last
# bits. Between layouts of CPU ranks 3e-7 was measured.
readonly MAX_DIFFERENCE_F32=1e-4
# bf16 keeps 8 bits of weights and activations: 2^-9 a rounding, of which a loss averages thousands.
readonly MAX_DIFFERENCE_BF16=1e-2

limit_s=540 wanted=()
while (($#)); do
  case $1 in
    --limit)
      [[ ${2-} =~ ^[1-9][0-9]*$ ]] || { echo "gpu_check.sh: --limit needs seconds" >&2; exit 2; }
      limit_s=$2
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *)
      [[ " ${STAGES[*]} " == *" $1 "* ]] || { echo "gpu_check.sh: no stage '$1'; see --help" >&2; exit 2; }
      wanted+=("$1")
      ;;
  esac
  shift
done
((${#wanted[@]})) || wanted=("${STAGES[@]}")

glibc_needed=$(sed -n 's/^glibc //p' VERSION 2> /dev/null) glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
if [[ $(printf '%s\n' "$glibc" "${glibc_needed:-0}" | sort --version-sort | tail -1) != "$glibc" ]]; then
  echo "gpu_check.sh: this bundle needs glibc $glibc_needed, this machine has $glibc: make the bundle on an older system" >&2
  exit 2
fi
for folder in /usr/local/nvidia/bin /usr/local/cuda/bin; do
  [[ ! -d $folder ]] || PATH=$PATH:$folder
done
if ! gpus=$(nvidia-smi -L 2>&1) || [[ $gpus != GPU* ]]; then
  echo "gpu_check.sh: no NVIDIA GPU here (nvidia-smi: ${gpus##*: })" >&2
  exit 2
fi

out=${OUT:-gpu-check}
[[ $out == /* ]] || out=$called_from/$out
mkdir -p "$out" || exit
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT
readonly out work
: > "$out/log.txt"

# Folders of CUDA's libraries: Python's packages first, since those of one PyTorch fit together.
cuda_library_folders() {
  local parent folder
  {
    python3 -c 'import sys; print("\n".join(sys.path))' 2> /dev/null
    printf '%s\n' /usr/lib/python3/dist-packages /usr/local/lib/python3*/{dist,site}-packages /opt/*/lib/python3*/site-packages
  } | while read -r parent; do
    for folder in "$parent"/nvidia/*/lib; do
      [[ ! -d $folder ]] || echo "$folder"
    done
  done | awk '!seen[$0]++'
  for folder in /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
    [[ ! -d $folder ]] || echo "$folder"
  done
}

show_machine() {
  local missing
  [[ ! -f VERSION ]] || cat VERSION
  nvidia-smi --query-gpu=index,name,memory.total,driver_version,compute_cap --format=csv
  "$programs/terroir" doctor
  [[ -f $module ]] || return 0
  missing=$(ldd "$module" 2> /dev/null | awk '/not found/ { print $1 }' | xargs)
  [[ -z $missing ]] || echo "not found in LD_LIBRARY_PATH or the system: $missing"
}

# --- one check -------------------------------------------------------------------------------------------------------
stage="" stage_end=0
passed=0 failed=0 skipped=0
results=()

# check NAME COMMAND...: runs a program or a function of this script, and notes how it ended. It may print "NOTE: ..."
# for the table; 77 and "SKIPPED: ..." mean that it cannot run here.
check() {
  local name=$1 begin=$SECONDS status=0 note
  shift
  if ((SECONDS >= stage_end)); then
    record "$name" failed 0 "not run: the stage's $limit_s s are over"
    return
  fi
  "$@" > "$work/output" 2>&1 < /dev/null || status=$?
  { printf '\n===== %s: %s\n' "$stage" "$name"; cat "$work/output"; } >> "$out/log.txt"
  note=$(note_of "$work/output")
  [[ $note != "0 tests"* ]] || status=77  # all of them skipped themselves
  case $status in
    0) record "$name" passed $((SECONDS - begin)) "$note" ;;
    77) record "$name" skipped $((SECONDS - begin)) "$note" ;;
    124 | 137) record "$name" failed $((SECONDS - begin)) "stopped: the stage's $limit_s s are over" ;;
    *)
      record "$name" failed $((SECONDS - begin)) "exit $status${note:+, $note}"
      tail -n 15 "$work/output" | sed 's/^/    /'
      ;;
  esac
}

# What a check says of itself: its own note, or GoogleTest's counts.
note_of() {
  awk '
    sub(/^SKIPPED: /, "") || sub(/^NOTE: /, "")      { note = note (note == "" ? "" : "; ") $0 }
    /^\[  PASSED  \] [0-9]+ test/                    { counts = $4 " tests" }
    /^\[  SKIPPED \] [0-9]+ test/                    { counts = counts ", " $4 " skipped" }
    /^\[  FAILED  \] [0-9]+ test/ && $5 ~ /^tests?,/ { counts = counts ", " $4 " failed" }
    END                                              { print note != "" ? note : counts }' "$1"
}

skip() { record "$1" skipped 0 "$2"; }

# record NAME passed|failed|skipped SECONDS NOTE: a line of the table, and results.json, whole after every check: a run
# that is cut off has left what it found.
record() {
  local separator="" result
  case $2 in
    passed) passed=$((passed + 1)) result="passed   $4" ;;
    skipped) skipped=$((skipped + 1)) result="SKIPPED: $4" ;;
    *) failed=$((failed + 1)) result="FAILED   $4" ;;
  esac
  printf '%-10s %-34s %5d s  %s\n' "$stage" "$1" "$3" "$result"
  results+=("$(printf '{"stage": "%s", "test": "%s", "status": "%s", "seconds": %d, "note": "%s"}' \
    "$stage" "$1" "$2" "$3" "$(json_text "$4")")")
  {
    printf '['
    for result in "${results[@]}"; do
      printf '%s\n%s' "$separator" "$result"
      separator=,
    done
    printf '\n]\n'
  } > "$work/results.json"
  cp "$work/results.json" "$out/results.json"
}

json_text() { tr -d '\000-\037' <<< "$1" | sed 's/[\\"]/\\&/g'; }

# Within what is left of the stage's time.
limited() { timeout --kill-after=10 $((stage_end > SECONDS ? stage_end - SECONDS : 1)) "$@"; }

# check_program PROGRAM [ARGUMENT...]: a test program on the GPU, if the bundle has it.
check_program() {
  if [[ ! -x $programs/$1 ]]; then
    skip "$1" "not in this bundle"
    return
  fi
  check "$1" limited env TERROIR_TEST_DEVICE=cuda "$programs/$1" "${@:2}"
}

# --- training --------------------------------------------------------------------------------------------------------
# Tokenizer and shards from the samples, once.
prepare_data() {
  [[ ! -f $work/data-is-there ]] || return 0
  "$programs/terroir" tokenizer train --vocab-size 2000 --out "$work/tokenizer.json" data/samples/??.txt \
    && "$programs/terroir" data build --overwrite --tokenizer "$work/tokenizer.json" --language und --license Apache-2.0 \
      --source samples --out "$work/shards" data/samples/??.txt \
    && touch "$work/data-is-there"
}

# training NAME RANKS CONFIG key=value...: sets command, which trains on those samples.
training() {
  command=()
  (($2 == 1)) || command=(mpirun -np "$2")
  command+=("$programs/terroir" train "$3" run.dir="$work/runs" run.name="$1" tokenizer="$work/tokenizer.json"
    'data.stages=[{sources: {samples: 1}}]' "data.sources={samples: {shards: '$work/shards/*.h5'}}" eval.every=0 "${@:4}")
}

# train_tiny NAME RANKS key=value...: ten steps of the quickstart's model.
train_tiny() {
  training "$1" "$2" configs/quickstart.yaml train.steps=10 schedule.warmup_steps=2 schedule.decay_steps=2 \
    checkpoint.every=0 parallel.tensor=1 parallel.pipeline=1 "${@:3}"
  limited "${command[@]}"
}

losses() { sed -n 's/.*"loss": \([-+0-9.eE]*\).*/\1/p' "$work/runs/$1/metrics.jsonl"; }

# compare_losses RUN REFERENCE LIMIT: fails above the limit, or if a step is missing.
compare_losses() {
  paste <(losses "$2") <(losses "$1") | awk -v limit="$3" '
    { difference = ($2 - $1) / $1; if (difference < 0) difference = -difference; if (difference > most) most = difference }
    NF != 2 { broken = 1 }
    END {
      printf "NOTE: %d losses differ by %.1e at most, %s allowed\n", NR, most, limit
      exit broken || NR == 0 || !(most <= limit)
    }'
}

compare_with_cpu() {
  prepare_data || return
  [[ -d $work/runs/cpu ]] || train_tiny cpu 1 device=cpu || return
  train_tiny "cuda-$1" 1 device=cuda precision.compute="$1" || return
  compare_losses "cuda-$1" cpu "$2"
}

# compare_ranks NAME RANKS TRANSPORT key=value...: with one rank that exchanges nothing.
compare_ranks() {
  prepare_data || return
  [[ -d $work/runs/one ]] || train_tiny one 1 device=cuda precision.compute=f32 || return
  train_tiny "$1" "$2" device=cuda precision.compute=f32 parallel.transport="$3" "${@:4}" || return
  compare_losses "$1" one "$MAX_DIFFERENCE_F32"
}

# --- throughput ------------------------------------------------------------------------------------------------------
readonly WARM_UP_STEPS=4 TIMED_STEPS=10

# The number of a key in a line of metrics.jsonl.
number_of() { sed -n "s/.*\"$1\": \([-+0-9.eE]*\).*/\1/p"; }

# members_of KEY SCALE UNIT: "a 1.2 UNIT, b 3.4 UNIT" of an object of numbers in such a line, each times SCALE.
members_of() {
  sed -n "s/.*\"$1\": {\([^}]*\)}.*/\1/p" | tr ',' '\n' | awk -F '[": ]+' -v scale="$2" -v unit="$3" '
    { printf "%s%s %.4g %s", (NR > 1 ? ", " : ""), $2, $3 * scale, unit }'
}

# describe_step LINE: the note of a step.
describe_step() {
  local mfu
  mfu=$(awk -v causal="$(number_of mfu <<< "$1")" -v full="$(number_of mfu_full_attention <<< "$1")" \
    'BEGIN { printf "%.1f %% (%.1f %% if all of attention counts)", 100 * causal, 100 * full }')
  printf 'NOTE: %.0f tokens/s, MFU %s, %.3f s a step: %s\n' "$(number_of tokens_per_s <<< "$1")" "$mfu" \
    "$(number_of step_s <<< "$1")" "$(members_of part_s 1000 ms <<< "$1")"
  printf 'NOTE: memory: %s\n' "$(members_of memory_bytes 9.31322574615478515625e-10 GiB <<< "$1")"
}

# Speed of terroir train by the median step. The run is killed after its steps: it would end with a checkpoint of
# 12 bytes a parameter.
measure_terroir() {
  local name=$1 pid steps=$((WARM_UP_STEPS + TIMED_STEPS)) metrics=$work/runs/$1/metrics.jsonl
  prepare_data || return
  rm -rf "$work/runs/$name"
  training "$name" 1 configs/llama_1b5.yaml device=cuda train.steps=1000000 schedule.warmup_steps=100 \
    schedule.decay_steps=100 checkpoint.every=0 parallel.tensor=1 parallel.pipeline=1 "${@:2}"
  "${command[@]}" &
  pid=$!
  until [[ -f $metrics ]] && (($(wc -l < "$metrics") >= steps)); do
    kill -0 "$pid" 2> /dev/null || { wait "$pid"; return; }
    ((SECONDS < stage_end)) || { kill -KILL "$pid"; wait "$pid"; return 124; }
    sleep 0.2
  done
  kill -KILL "$pid"
  wait "$pid" 2> /dev/null
  sed -n "$((WARM_UP_STEPS + 1)),${steps}p" "$metrics" \
    | sed 's/.*"step_s": \([-+0-9.eE]*\).*/\1 &/' | sort -g | sed -n "$(((TIMED_STEPS + 1) / 2))s/^[^ ]* //p" > "$work/median"
  [[ -s $work/median ]] || return
  describe_step "$(cat "$work/median")"
}

# measure_size NAME HIDDEN INTERMEDIATE LAYERS HEADS KV_HEADS VOCABULARY SEQUENCE MICRO_BATCH BATCH RECOMPUTE
measure_size() {
  local name=$1
  check "$name terroir" measure_terroir "$name" model.hidden_size="$2" model.intermediate_size="$3" \
    model.num_hidden_layers="$4" model.num_attention_heads="$5" model.num_key_value_heads="$6" model.vocab_size="$7" \
    model.max_position_embeddings="$8" data.sequence_length="$8" train.micro_batch_size="$9" \
    train.global_batch_size="${10}" train.recompute="${11}"
  if [[ ! -f $torch_program ]]; then
    skip "$name PyTorch" "not in this bundle"
  elif ! python3 -c 'import torch' 2> /dev/null; then
    skip "$name PyTorch" "python3 has no torch"
  else
    # With the library path that torch itself would have: it brings its own CUDA.
    check "$name PyTorch" limited env LD_LIBRARY_PATH="$library_path_before" python3 "$torch_program" \
      --hidden "$2" --intermediate "$3" --layers "$4" --heads "$5" --kv-heads "$6" --vocabulary "$7" --sequence "$8" \
      --micro-batch "$9" --batch "${10}" --recompute "${11}" --warm-up "$WARM_UP_STEPS" --steps "$TIMED_STEPS"
  fi
}

# --- stages ----------------------------------------------------------------------------------------------------------
# Those that also run on the emulated GPU: named by the bundle, in a checkout by ctest's own file.
op_tests() {
  if [[ -f share/op_tests ]]; then
    cat share/op_tests
  else
    op_tests_of "$programs/.." 2> /dev/null
  fi
}

stage_ops() {
  local program programs_of_ops
  programs_of_ops=$(op_tests)
  [[ -n $programs_of_ops ]] || skip "op tests" "not in this bundle"
  for program in $programs_of_ops; do
    check_program "$program"
  done
}

stage_steps() {
  check_program test_cuda_training
  check_program test_language_model
  check "CPU and CUDA, f32" compare_with_cpu f32 "$MAX_DIFFERENCE_F32"
  check "CPU f32 and CUDA bf16" compare_with_cpu bf16 "$MAX_DIFFERENCE_BF16"
}

stage_shared() {
  check_program test_communicator_staged
  check "2 ranks: data 2" compare_ranks data2 2 host
  check "2 ranks: tensor 2" compare_ranks tensor2 2 host parallel.tensor=2
  check "4 ranks: tensor 2 x pipeline 2" compare_ranks tensor2-pipeline2 4 host parallel.tensor=2 parallel.pipeline=2
  check "4 ranks: data 4" compare_ranks data4 4 host
}

stage_nccl() { check "1 rank, its group of one" compare_ranks nccl 1 nccl; }

stage_sanitizer() {
  local program tool
  if ! command -v compute-sanitizer > /dev/null; then
    skip compute-sanitizer "compute-sanitizer is not installed"
    return
  fi
  [[ -n $(op_tests) ]] || skip "op tests" "not in this bundle"
  for tool in memcheck racecheck; do
    for program in $(op_tests); do
      check "$tool $program" limited env TERROIR_TEST_DEVICE=cuda compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$programs/$program" --gtest_brief=1
    done
  done
}

stage_bench() {
  check_program bench_cuda_kernels --benchmark_out="$out/bench.json" --benchmark_out_format=json
  [[ ! -x $programs/bench_cuda_kernels ]] || sed -n 's|/manual_time||p' "$work/output"
}

stage_train() {
  #            name hidden inter. layers heads kv vocabulary sequence micro batch recompute
  measure_size 124M   768   2048   12    12   12  50304      1024     16    64  none
  measure_size 1.5B  2048   5632   28    16    8  65536      4096      1     8  full
  measure_size 3B    3072   8192   28    24    8  65536      4096      1     8  full
}

module=${TERROIR_CUDA_MODULE:-$programs/libterroir_cuda.so}
library_path_before=${LD_LIBRARY_PATH-}
torch_program=share/bench/torch_training.py
[[ -f $torch_program ]] || torch_program=tests/bench/torch_training.py
LD_LIBRARY_PATH=$library_path_before$(cuda_library_folders | sed 's/^/:/' | tr -d '\n')
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH#:}

{ show_machine; echo; } 2>&1 | tee -a "$out/log.txt"
for stage in "${wanted[@]}"; do
  stage_end=$((SECONDS + limit_s))
  if [[ -f $module ]]; then
    "stage_$stage"
  else
    skip "$stage" "not in this bundle: ${module##*/}"
  fi
done

printf '\n%s passed, %s failed, %s skipped in %s s; results and log in %s\n' "$passed" "$failed" "$skipped" "$SECONDS" "$out"
((failed == 0)) || exit 1
((passed > 0)) || exit 2

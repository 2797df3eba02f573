#!/usr/bin/env bash
# All of bench_cuda_kernels runs (on the emulated GPU, at tiny sizes), it leaves out no op, and its figures are figures.
#
#   bench_cuda_kernels_test.sh PROGRAM
set -euo pipefail
program=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*"; cat "$folder/log"; exit 1; }

"$program" --small --benchmark_out="$folder/bench.json" --benchmark_out_format=json &> "$folder/log" || fail "exit $?"
grep -q '^NOTE: copies at .* TB/s, bf16 products at .* TFLOP/s$' "$folder/log" || fail "no ceilings"

# Ops as kernels/op_table.h names them: a benchmark's name begins with its op's.
ops=$(sed -n 's/^ *OpFunction<.*> \([a-z0-9_]*\);$/\1/p' "$root/kernels/op_table.h")
(($(wc -w <<< "$ops") > 20)) || fail "no ops found in op_table.h"
for op in $ops copy_ceiling product_ceiling; do
  grep -q "\"name\": \"$op/" "$folder/bench.json" || fail "$op is not timed"
done
for op in attention_forward attention_backward; do
  grep -q "\"name\": \"$op/cudnn/bf16/.*/documents:2" "$folder/bench.json" || fail "$op through cuDNN is not timed"
done

# Each has a share, and TB/s or TFLOP/s or both, all positive.
awk -F '[:,] *' '
  /^ *"name"/ { if (name != "" && bad()) exit; name = $2; share = rate = 0 }
  /^ *"error_message"/ { print name, $0; exit failed = 1 }
  /^ *"T(B|FLOP)\/s"/ { rate = $2 > 0 ? 1 : -1000 }
  /^ *"share"/ { share = $2 }
  function bad() { if (!(share > 0 && rate > 0)) { print name ": share " share ", rate " rate; failed = 1 } return failed }
  END { if (!failed) bad(); exit failed }' "$folder/bench.json" || fail "a figure is missing or not positive"

# The sizes of a real GPU are laid out too, or named as left out.
"$program" --benchmark_list_tests > "$folder/log" || fail "exit $?"
grep -q '^rms_norm_forward/residual/bf16/4096x2048/' "$folder/log" || fail "real sizes are not there"

# Without a module, and with a mistyped argument: one line.
status=0
TERROIR_CUDA_MODULE=/nowhere.so "$program" --small &> "$folder/log" || status=$?
if ((status != 1)) || [[ $(cat "$folder/log") != "bench_cuda_kernels: "*/nowhere.so* ]]; then fail "exit $status without a module"; fi
status=0
"$program" --smal &> "$folder/log" || status=$?
((status == 2)) || fail "exit $status for an unknown argument"

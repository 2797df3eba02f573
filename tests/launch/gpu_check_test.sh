#!/usr/bin/env bash
# launch/gpu_check.sh in a bundle of stand-ins: what passes, fails, hangs or is not there is said so, in the table and in
# results.json, and nothing stops what follows.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir -p bundle/{bin,share} tools python/nvidia/cudnn/lib elsewhere
ln -s "$root/launch" "$root/configs" bundle/
mkdir bundle/data
ln -s "$root/data/samples" bundle/data/samples

stand_in() {
  printf '#!/bin/bash\n%s\n' "$2" > "$1"
  chmod +x "$1"
}
fail() { echo "FAILED: $*"; cat log; exit 1; }

# expect CODE [stage ...]: runs the script from another folder.
expect() {
  local status=0
  (cd elsewhere && PATH=$folder/tools:$PATH "$folder/bundle/launch/gpu_check.sh" "${@:2}") &> log || status=$?
  ((status == $1)) || fail "${*:2}: ended with $status instead of $1"
}
# says TEXT: a line of the table, spaces as they come.
says() { tr -s ' ' < log | grep -qF -- "$1" || fail "no line with '$1'"; }
result() { grep -qF -- "$1" elsewhere/gpu-check/results.json || fail "not in results.json: $1 $(cat elsewhere/gpu-check/results.json)"; }

echo "glibc 99.1" > bundle/VERSION
expect 2
says "this bundle needs glibc 99.1, this machine has "
echo "glibc 2.2.5" > bundle/VERSION

stand_in tools/nvidia-smi 'echo "No devices were found"; exit 6'
expect 2
says "no NVIDIA GPU here (nvidia-smi: No devices were found)"
expect 2 ops nonsense
says "no stage 'nonsense'"

# shellcheck disable=SC2016  # expands in the stand-ins
{
  stand_in tools/nvidia-smi 'echo "GPU 0: stand-in"'
  stand_in tools/python3 "[[ \$2 == *torch* ]] && exit 1; echo $folder/python"
  stand_in tools/compute-sanitizer 'while [[ $1 != */bin/test_* && $1 != bin/test_* ]]; do shift; done; exec "$@"'
  # Losses as if cuda:f32 computed like the CPU and cuda:bf16 did not.
  stand_in bundle/bin/terroir '
    for argument in "$@"; do case $argument in run.dir=*) dir=${argument#*=} ;; run.name=*) name=${argument#*=} ;; esac; done
    case $1 in
      doctor) echo "doctor: $LD_LIBRARY_PATH" ;;
      train)
        loss=2.5
        [[ "$*" != *precision.compute=bf16* ]] || loss=2.6
        mkdir -p "$dir/$name"
        for i in {1..14}; do echo "{\"loss\": $loss, \"step_s\": 0.5, \"tokens_per_s\": 1000.0, \"mfu\": 0.25, \"mfu_full_attention\": 0.3, \"part_s\": {\"backward\": 0.25, \"forward\": 0.125}, \"memory_bytes\": {\"gradients\": 2147483648}}"; done > "$dir/$name/metrics.jsonl"
        [[ "$*" != *steps=1000000* ]] || exec sleep 60
        ;;
    esac'
  stand_in bundle/bin/mpirun 'shift 2; exec "$@"'
  stand_in bundle/bin/test_good 'printf "[  PASSED  ] 12 tests.\n[  SKIPPED ] 3 tests, listed below:\n$TERROIR_TEST_DEVICE\n"'
  stand_in bundle/bin/test_bad 'printf "expected \"a\"\n[  PASSED  ] 1 test.\n[  FAILED  ] 2 tests, listed below:\n"; exit 1'
  stand_in bundle/bin/test_cpu_only 'printf "[  PASSED  ] 0 tests.\n[  SKIPPED ] 5 tests, listed below:\n"'
  stand_in bundle/bin/test_hanging 'sleep 60'
}

expect 2
says "train train 0 s SKIPPED: not in this bundle: libterroir_cuda.so"

cp "$(type -P true)" bundle/bin/libterroir_cuda.so
printf 'test_%s\n' bad good cpu_only > bundle/share/op_tests
expect 1 ops bench
says "doctor: $folder/python/nvidia/cudnn/lib"
says "ops test_bad 0 s FAILED exit 1, 1 tests, 2 failed"
says 'expected "a"'
says "ops test_good 0 s passed 12 tests, 3 skipped"
says "ops test_cpu_only 0 s SKIPPED: 0 tests, 5 skipped"
says "bench bench_cuda_kernels 0 s SKIPPED: not in this bundle"
says "1 passed, 1 failed, 2 skipped"
result '{"stage": "ops", "test": "test_bad", "status": "failed", "seconds": 0, "note": "exit 1, 1 tests, 2 failed"}'
grep -qx cuda elsewhere/gpu-check/log.txt || fail "the device was not named to test_good"

printf 'test_%s\n' hanging good > bundle/share/op_tests
expect 1 --limit 1 ops sanitizer
says "FAILED stopped: the stage's 1 s are over"
says "ops test_good 0 s FAILED not run: the stage's 1 s are over"

printf 'test_good\n' > bundle/share/op_tests
expect 0 sanitizer shared nccl
says "sanitizer racecheck test_good 0 s passed"
says "nccl 1 rank, its group of one 0 s passed 14 losses"
says "shared 4 ranks: data 4 0 s passed 14 losses differ by 0.0e+00 at most"
# shellcheck disable=SC2016  # expands in the stand-in
stand_in bundle/bin/bench_cuda_kernels 'printf "Running bin/bench\nswiglu_forward/bf16/4096x5632/manual_time 35 us TB/s=2.6 share=0.9\n"
  printf "NOTE: copies at 2.90 TB/s, bf16 products at 700.0 TFLOP/s\n"; echo "{}" > "${1#*=}"'
expect 0 bench
says "bench bench_cuda_kernels 0 s passed copies at 2.90 TB/s, bf16 products at 700.0 TFLOP/s"
says "swiglu_forward/bf16/4096x5632 35 us TB/s=2.6 share=0.9"
[[ -s elsewhere/gpu-check/bench.json ]] || fail "no bench.json"
stand_in bundle/bin/bench_cuda_kernels 'echo "bench_cuda_kernels: no memory" >&2; exit 1'
expect 1 bench
says "bench bench_cuda_kernels 0 s FAILED exit 1"
expect 1 steps
says "steps CPU f32 and CUDA bf16 0 s FAILED exit 1, 14 losses differ by 4.0e-02 at most"

expect 0 train
tr -s ' ' < log | grep -qE 'train 124M terroir [0-9] s passed 1000 tokens/s, MFU 25.0 % \(30.0 % if all of attention counts\), 0.500 s a step: backward 250 ms, forward 125 ms; memory: gradients 2 GiB$' || fail "no throughput"
says "train 3B PyTorch 0 s SKIPPED: not in this bundle"

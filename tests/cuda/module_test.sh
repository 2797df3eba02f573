#!/usr/bin/env bash
# The module loads with or without a GPU, offers what the program looks up and nothing else, and the program itself
# depends on nothing of CUDA.
#
#   module_test.sh MODULE PROGRAM
set -euo pipefail
module=$1 program=$2
fail() { echo "$*"; exit 1; }

exported=$(nm --dynamic --defined-only "$module" | awk '{ print $3 }' | sort | tr '\n' ' ')
case $exported in
  "terroir_cuda_module " | "terroir_cuda_module terroir_nccl_world ") ;;
  *) fail "exported: $exported" ;;
esac

needed=$(objdump -p "$program" | awk '$1 == "NEEDED" { print $2 }')
grep -E '^lib(cu|nv|nccl)' <<< "$needed" && fail "the program needs libraries of CUDA"
needed=$(objdump -p "$module" | awk '$1 == "NEEDED" { print $2 }')
for library in libcudart libcublasLt; do
  grep -q "^$library\.so\." <<< "$needed" || fail "the module is not linked to $library: $needed"
done

# Without a GPU, or a driver, the runtime says so; the module has been loaded to ask it.
state=$(TERROIR_CUDA_MODULE=$module "$program" doctor | grep '^CUDA backend')
echo "$state"
grep -Eq 'cuda:0|cudaGetDeviceCount: ' <<< "$state" || fail "doctor does not tell whether there is a GPU"

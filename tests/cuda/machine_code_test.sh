#!/usr/bin/env bash
# The kernels named in machine_code.txt contain the instructions named there.
#
#   machine_code_test.sh MODULE BUILD_DIR TOOLKIT_BIN_DIR
#
# The disassembler comes from the toolkit, or from Python's package index into BUILD_DIR/cuda-venv. Exit status 77 where
# neither has it.
set -euo pipefail

readonly ARCHITECTURE=sm_90
module=$(realpath "$1") build=$(realpath "$2")
export PATH=$3:$PATH
cd "$(dirname "$0")"
if ! command -v cuobjdump > /dev/null || ! command -v nvdisasm > /dev/null; then
  ../../launch/cuda_tools.sh "$build" || exit $?
  for folder in "$build"/cuda-venv/lib/python3*/site-packages/nvidia/*/bin; do
    PATH=$folder:$PATH
  done
fi

# One line "mangled name instruction count" for each instruction of interest.
cuobjdump -sass -arch "$ARCHITECTURE" "$module" | awk '
  /Function :/ { kernel = $3; next }
  match($0, / (LDG|STG|LDGSTS|LDSM|HMMA)[.A-Z0-9_]*/) {
    count[kernel " " substr($0, RSTART + 1, RLENGTH - 1)]++
  }
  END { for (key in count) print key, count[key] }' > "$build/machine_code.found"
[[ -s $build/machine_code.found ]] || { echo "cuobjdump found no code for $ARCHITECTURE in $module"; exit 1; }

checked=0 missing=0
while read -r source kernel instruction; do
  [[ -z $source || $source == \#* ]] && continue
  checked=$((checked + 1))
  grep -P "_${source}_cu_\S*${kernel}\S* ${instruction}\S* [0-9]+\$" "$build/machine_code.found" > /dev/null && continue
  echo "no $instruction in $source.cu, $kernel"
  missing=$((missing + 1))
done < machine_code.txt
echo "$checked requirements, $missing not met"
((missing == 0))

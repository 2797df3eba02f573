#!/usr/bin/env bash
# Runs a compiler that was given `-Xptxas -v` and keeps what it says about each kernel (registers, spills) in
# OBJECT.ptxas beside the object file, off the screen: the compiler launcher of device code.
#
#   keep_ptxas_info.sh nvcc ... -o OBJECT ...
set -uo pipefail

object=
for ((i = 1; i < $#; i++)); do
  [[ ${!i} == -o ]] && { next=$((i + 1)) object=${!next}; }
done
[[ -n $object ]] || exec "$@"

messages=$("$@" 2>&1 > /dev/null)
status=$?
readonly INFO='^ptxas info|^    [0-9]+ bytes stack frame, '
grep -E "$INFO" <<< "$messages" > "$object.ptxas"
grep -vE "$INFO|^$" <<< "$messages" >&2
exit $status

#!/usr/bin/env bash
# Every shell script parses. (launch/lint.sh asks shellcheck for more.)
set -euo pipefail
cd "$(dirname "$0")/../.."

mapfile -t scripts < <(find launch .ci tests -type f \( -name '*.sh' -o -name '*.sbatch' -o -path '.ci/run' \))
((${#scripts[@]} > 3)) || { echo "no scripts found"; exit 1; }
for script in "${scripts[@]}"; do
  bash -n "$script"
done

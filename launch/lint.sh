#!/usr/bin/env bash
# clang-tidy over C++ sources (after a build of preset release) and shellcheck over shell scripts.
#
#   launch/lint.sh                what differs from the last commit, and new files
#   launch/lint.sh --all          everything: about ten seconds a file and core
#   launch/lint.sh FILE...
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1-} in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
  --all) mapfile -t files < <(git ls-files) ;;
  "") mapfile -t files < <(git diff --name-only --diff-filter=d HEAD; git ls-files --others --exclude-standard) ;;
  *) files=("$@") ;;
esac

sources=() scripts=()
for file in "${files[@]}"; do
  case $file in
    *.cc) sources+=("$file") ;;
    *.sh | *.sbatch | .ci/run) scripts+=("$file") ;;
  esac
done

if ((${#scripts[@]})); then
  shellcheck -x "${scripts[@]}"
fi
if ((${#sources[@]})); then
  # GCC's own warning options are unknown to clang.
  printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" \
    clang-tidy --quiet -p build/release --extra-arg=-Wno-unknown-warning-option
fi
echo "lint: ${#sources[@]} sources, ${#scripts[@]} scripts"

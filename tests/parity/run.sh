#!/usr/bin/env bash
# Compares Terroir with Hugging Face tokenizers, transformers and PyTorch on CPUs.
#
#   tests/parity/run.sh BUILD_DIR             all comparisons
#   tests/parity/run.sh BUILD_DIR NAME...     some of: tokenizer_parity hf_roundtrip model_parity training_parity
#
# BUILD_DIR holds bin/terroir. The Python packages are installed once into BUILD_DIR/parity-venv: a download of 200 MB
# to 1 GB. Exit status: 0 all equal, 1 a difference, 2 usage, 77 skipped (no Python, no venv, no package index).
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
readonly HERE
readonly ALL=(tokenizer_parity hf_roundtrip model_parity training_parity)
readonly PACKAGES=(torch transformers tokenizers safetensors numpy h5py)

skip() { echo "SKIPPED: parity: $*"; exit 77; }

install_venv() {
  local venv=$1
  command -v python3 > /dev/null || skip "there is no python3"
  exec 9> "$venv.lock"
  flock 9  # two comparisons may start together
  "$venv/bin/python" -c 'import h5py, numpy, safetensors, tokenizers, torch, transformers' 2> /dev/null && return
  python3 -m venv "$venv" 2> /dev/null || skip "python3 -m venv fails; Debian's package is python3-venv"
  echo "installing ${PACKAGES[*]} into $venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${PACKAGES[@]}" \
    || skip "pip could not install ${PACKAGES[*]} (no network?)"
  exec 9>&-
}

(($# >= 1)) || { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
[[ -x $1/bin/terroir ]] || { echo "run.sh: there is no $1/bin/terroir: build the target terroir first" >&2; exit 2; }
BUILD=$(cd "$1" && pwd)
readonly BUILD
shift
install_venv "$BUILD/parity-venv"

passed=0 failed=0
for name in "${@:-${ALL[@]}}"; do
  begin=$SECONDS
  if "$BUILD/parity-venv/bin/python" "$HERE/$name.py" "$BUILD/bin/terroir"; then
    passed=$((passed + 1)) result=passed
  else
    failed=$((failed + 1)) result=FAILED
  fi
  echo "parity: $name $result in $((SECONDS - begin)) s"
done
echo "parity: $passed passed, $failed failed"
((failed == 0))

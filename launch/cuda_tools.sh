#!/usr/bin/env bash
# Fetches what a CUDA toolkit may lack for building and checking the CUDA backend, from Python's package index into
# BUILD_DIR/cuda-venv: the headers of cudnn-frontend, and the disassembler for the checks of machine code.
#
#   launch/cuda_tools.sh build/release        before `cmake --preset release`
#
# Nothing of it is needed to run. Exit status 77: no Python or no package index.
set -euo pipefail

readonly PACKAGES=("nvidia-cudnn-frontend>=1.32,<2" "nvidia-cuda-cuobjdump>=13,<14" "nvidia-cuda-nvdisasm>=13,<14")

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }
skip() { echo "SKIPPED: CUDA tools: $*"; exit 77; }

case ${1-} in
  -h | --help) usage; exit 0 ;;
  "" | -*) usage >&2; exit 2 ;;
esac
venv=$1/cuda-venv
[[ -e $venv/complete ]] && exit 0
command -v python3 > /dev/null || skip "there is no python3"
mkdir -p "$1"
exec 9> "$venv.lock"
flock 9  # two tests may start together
[[ -e $venv/complete ]] && exit 0
python3 -m venv "$venv" 2> /dev/null || skip "python3 -m venv fails; Debian's package is python3-venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "${PACKAGES[@]}" \
  || skip "pip could not install ${PACKAGES[*]} (no network?)"
touch "$venv/complete"

#!/usr/bin/env bash
# Installs what is missing, builds, and runs the whole CPU test suite: what CI calls.
#
#   launch/test.sh                    everything: all tests; unit tests again under sanitizers (presets dev: addresses
#                                     and undefined behaviour; tsan: threads); parity with PyTorch; the quickstart
#   launch/test.sh --fast             while working: release build, tests of seconds only
#   launch/test.sh --preset dev       the tests of one preset: release, dev or tsan
#   launch/test.sh --no-install       never calls apt; stops if something is missing
#
# Exit status 0 only if everything passed. Build folders: build/release, build/dev, build/tsan.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/phases.sh
source launch/phases.sh
# shellcheck source=launch/local_mpi.sh
source launch/local_mpi.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

presets=(release dev tsan)
install=true fast=false parity=true quickstart=true
while (($#)); do
  case $1 in
    --preset)
      [[ ${2-} =~ ^(release|dev|tsan)$ ]] || { echo "test.sh: --preset release, dev or tsan" >&2; exit 2; }
      presets=("$2") parity=false quickstart=false
      shift
      ;;
    --fast) presets=(release) fast=true parity=false quickstart=false ;;
    --no-install) install=false ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done

# Under sanitizers, tests run five to twenty times slower and Open MPI itself is not clean: unit tests only.
readonly NOT_UNIT='^(mpi|gpu|slow|parity|bench)$'

export UBSAN_OPTIONS=print_stacktrace=1
# Clones in different folders share what the compiler cache holds.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true
passed=0 failed=0 skipped=0 failure_texts=

build() {
  local preset=$1 launcher=()
  if command -v ccache > /dev/null; then
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache)
  fi
  if $install && [[ $preset == release ]] && command -v nvcc > /dev/null; then
    launch/cuda_tools.sh "build/$preset" || true  # without it the build has no cuDNN, and a test skips itself
  fi
  cmake --preset "$preset" -DTERROIR_BUILD_TESTS=ON "${launcher[@]}"
  cmake --build --preset "$preset"
}

# run_tests PRESET [ctest options]: failing tests are counted, and the script goes on.
run_tests() {
  local report=$PWD/build/$1/ctest.xml
  rm -f "$report"
  ctest --preset "$1" --parallel "$(nproc)" --no-tests=error --output-junit "$report" "${@:2}" || true
  [[ -s $report ]] || { echo "test.sh: no test ran in build/$1" >&2; exit 1; }
  count "$report"
}

# The report's first lines carry the totals: tests="345" failures="0" disabled="0" skipped="2".
count() {
  local all failures skips
  total() { grep -m1 -o "\b$1=\"[0-9]*\"" "$2" | tr -dc 0-9; }
  all=$(total tests "$1") failures=$(total failures "$1")
  skips=$(($(total skipped "$1") + $(total disabled "$1")))
  passed=$((passed + all - failures - skips)) failed=$((failed + failures)) skipped=$((skipped + skips))
  skip_reasons "$1"
  failed_tests "$1"
}

# Names each test that was skipped and what it said about it: GoogleTest's line after "Skipped", a script's after
# "SKIPPED: ".
skip_reasons() {
  awk -F '"' '
    /<testcase /               { name = $2; searching = /status="(notrun|disabled)"/; reason = "" }
    after_skipped              { reason = $0 }
    match($0, /SKIPPED: /)     { reason = substr($0, RSTART + RLENGTH) }
    searching && reason != ""  { print "skipped: " name ": " reason; searching = 0 }
                               { after_skipped = /: Skipped$/ }' "$1"
}

# Keeps for the end each test that failed, with the last lines that it printed.
failed_tests() {
  failure_texts+=$(awk -F '"' -v folder="$(basename "$(dirname "$1")")" '
    /<testcase /                            { name = $2; wrong = /status="fail"/; printed = 0 }
    wrong && /<system-out>/                 { printed = 1; sub(/.*<system-out>/, ""); n = 0 }
    wrong && printed && /<\/system-out>/    { sub(/<\/system-out>.*/, ""); line[n++] = $0
                                              print "\nFAILED in build/" folder ": " name
                                              for (i = n > 30 ? n - 30 : 0; i < n; i++) print "    " line[i]
                                              printed = 0 }
    wrong && printed                        { line[n++] = $0 }' "$1")
}

phase "packages"
if $install; then
  launch/install_deps.sh --tests
else
  launch/install_deps.sh --tests --check
fi

for preset in "${presets[@]}"; do
  phase "$preset: build"
  build "$preset"
  phase "$preset: tests"
  case $preset in
    release)
      if $fast; then
        run_tests release --label-exclude "$NOT_UNIT"
      else
        run_tests release --label-exclude '^(gpu|parity|bench)$'
      fi
      ;;
    *) run_tests "$preset" --label-exclude "$NOT_UNIT" ;;
  esac
done

if $parity; then
  # tests/parity/run.sh installs Python packages into the build folder, or says why it cannot.
  phase "parity with PyTorch and transformers"
  run_tests release --label-regex '^parity$'
fi

if $quickstart; then
  phase "quickstart, short and offline"
  if launch/quickstart.sh --offline --no-install --steps 20 --dir build/quickstart-test; then
    passed=$((passed + 1))
  else
    failure_texts+=$'\nFAILED: launch/quickstart.sh'
    failed=$((failed + 1))
  fi
fi

phases_summary
[[ -z $failure_texts ]] || printf '\n%s\n' "$failure_texts"
echo "tests: $passed passed, $failed failed, $skipped skipped"
((failed == 0))

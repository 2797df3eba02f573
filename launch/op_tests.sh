# Sourced by scripts that run the kernels' tests on a GPU.
# shellcheck shell=bash

# op_tests_of BUILD_DIR: the test programs that ctest runs on the emulated GPU too (tests/kernels), as ctest knows them.
op_tests_of() {
  sed -n 's/^add_test(\[*=*\[*\([a-z0-9_]*\)\.cuda_on_cpu[] =].*/test_\1/p' "$1/tests/kernels/CTestTestfile.cmake"
}

#!/usr/bin/env bash
# All C++ sources are formatted. Only with clang-format 14, since other versions break lines elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."

clang_format=$(command -v clang-format-14 || command -v clang-format || true)
if [[ -z $clang_format || $("$clang_format" --version) != *"version 14."* ]]; then
  echo "SKIPPED: clang-format 14 is not installed"
  exit 77
fi
find base kernels parallel data trainer tests \( -name '*.h' -o -name '*.cc' -o -name '*.cu' \) \
  -exec "$clang_format" --dry-run -Werror {} +

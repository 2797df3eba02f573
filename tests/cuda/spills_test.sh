#!/usr/bin/env bash
# No kernel spills registers to memory, on any architecture it is compiled for, except those listed below.
#
#   spills_test.sh MODULE OBJECT...
#
# Reads what cmake/keep_ptxas_info.sh kept beside the objects of device code.
set -euo pipefail

# "kernel architecture most bytes stored", one a line, kernel as in the mangled name, with a reason each.
readonly ALLOWED=""

shift
files=()
for object in "$@"; do
  [[ $object == *.cu.o ]] && files+=("$object.ptxas")
done
((${#files[@]} > 0)) || { echo "no object of device code"; exit 1; }

awk -v allowed="$ALLOWED" '
  BEGIN {
    split(allowed, lines, "\n")
    for (i in lines) if (split(lines[i], word, " ") == 3) limit[word[1], word[2]] = word[3]
  }
  match($0, /Compiling entry function .* for /) {
    split($0, quoted, "\047")
    kernel = quoted[2]; architecture = quoted[4]; kernels++
  }
  /bytes spill stores/ {
    most = 0
    for (key in limit) {
      split(key, name, SUBSEP)
      if (index(kernel, name[1]) && architecture == name[2]) most = limit[key]
    }
    if ($5 + 0 > most || $9 + 0 > 0 && most == 0) { print architecture ": " $5 " bytes spilled by " kernel; bad = 1 }
  }
  /Used [0-9]+ registers/ {
    registers = $5 + 0
    if (registers > highest) { highest = registers; which = kernel }
  }
  END {
    print kernels " kernels, at most " highest " registers (" which ")"
    if (kernels == 0) { print "nothing was compiled with -Xptxas -v"; bad = 1 }
    exit bad
  }' "${files[@]}" | c++filt

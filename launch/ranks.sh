# Sourced by scripts that start ranks and may be interrupted themselves.
# shellcheck shell=bash

# In a bundle (launch/bundle.sh), terroir and mpirun lie in bin/; in a checkout, terroir lies in the build folder.
# shellcheck disable=SC2034  # for those that source this
if [[ -x bin/terroir ]]; then
  programs=bin
  PATH=$PWD/bin:$PATH
else
  programs=build/release/bin
fi

# run_ranks mpirun ...: runs it and returns its exit code. INT, TERM and USR1 to this script reach the ranks as USR1:
# save and end with 75. (What mpirun itself does with INT and TERM leaves them a second or two.)
run_ranks() {
  local pid status=0
  setsid "$@" &  # Ctrl-C in a terminal goes to the whole process group: this script's, not mpirun's
  pid=$!
  # shellcheck disable=SC2064  # the value of now
  trap "kill -USR1 $pid 2> /dev/null" INT TERM USR1
  wait "$pid" || status=$?
  while kill -0 "$pid" 2> /dev/null; do  # a trapped signal ends wait before mpirun ends
    status=0
    wait "$pid" || status=$?
  done
  trap - INT TERM USR1
  return "$status"
}

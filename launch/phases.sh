# Sourced by scripts that run in phases: says what starts, how long it took, and sums it up at the end.
# shellcheck shell=bash

phase_names=()
phase_seconds=()
phase_started=

# phase TEXT: ends the phase before, if any, and starts one.
phase() {
  phase_end
  phase_names+=("$*")
  phase_started=$SECONDS
  printf '\n== %s\n' "$*"
}

phase_end() {
  [[ -n $phase_started ]] || return 0
  phase_seconds+=($((SECONDS - phase_started)))
  phase_started=
  printf '== done in %s\n' "$(minutes "${phase_seconds[-1]}")"
}

# minutes SECONDS: "7.4 min"
minutes() { printf '%d.%d min' $(($1 / 60)) $(($1 % 60 / 6)); }

phases_summary() {
  phase_end
  local i
  printf '\n'
  for i in "${!phase_names[@]}"; do
    printf '%10s  %s\n' "$(minutes "${phase_seconds[i]}")" "${phase_names[i]}"
  done
  printf '%10s  all\n' "$(minutes "$SECONDS")"
}

#!/usr/bin/env bash
# Training on several machines without a batch system.
#
#   launch/train_cluster.sh HOSTFILE INTERFACE CONFIG [key=value ...]
#
#   HOSTFILE    one machine a line, with the number of ranks it takes:   node01 slots=8
#   INTERFACE   the network between the machines, by its name (eth0, ib0) or its address (10.1.0.0/16)
#
# Each machine needs this folder under the same path (a shared file system), the same build, and ssh without a password
# from here. Ends with the code of `terroir train`; 7 (a rank or the network failed) and 75 (saved after a signal)
# mean: start me again. Ctrl-C saves and ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
if (($# < 3)); then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
# shellcheck source=launch/ranks.sh
source launch/ranks.sh
readonly hostfile=$1 interface=$2
shift 2
readonly TERROIR=${TERROIR:-$programs/terroir}

ranks=$(awk '!/^[[:space:]]*(#|$)/ { slots = 1; for (i = 2; i <= NF; ++i) if ($i ~ /^slots=/) slots = substr($i, 7); sum += slots }
  END { print sum + 0 }' "$hostfile")
mpirun_arguments=(
  --hostfile "$hostfile" -np "$ranks"
  # Neighbouring ranks on one machine: tensor ranks talk most, and they are numbered first.
  --map-by slot
  # Not bound by mpirun, which gives a rank one core: the ranks of a machine share its cores among themselves.
  --bind-to none
  # One named interface for data (btl) and for mpirun itself (oob). Left to itself Open MPI tries all, and hangs where
  # one leads nowhere (container bridges, management networks).
  --mca btl_tcp_if_include "$interface" --mca oob_tcp_if_include "$interface"
)
run_ranks mpirun "${mpirun_arguments[@]}" "$TERROIR" train "$@"

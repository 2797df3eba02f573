# Sourced by scripts that start MPI ranks on this one machine with Open MPI.
# shellcheck shell=bash

# Keep to the loopback interface: between ranks of one machine others are slower, and behind a firewall they hang.
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
# More ranks than cores is normal here: they share all cores, and those that wait give way.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
if ((EUID == 0)); then  # in containers everybody is root
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

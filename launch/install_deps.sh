#!/usr/bin/env bash
# Installs what Terroir needs from the system's own packages: only what is missing, and says what and why.
#
#   launch/install_deps.sh            what it takes to build and run
#   launch/install_deps.sh --tests    that, and what the tests need
#   launch/install_deps.sh --bundle   that, and what launch/bundle.sh needs (included in --tests)
#   launch/install_deps.sh --check    (with or without the others) installs nothing; lists what is missing, exit 1 if any
#
# Needs root or sudo, and only if something is missing. Package names are those of Debian 12 and Ubuntu 24.04;
# Debian 12 is the system the project is tested on.
set -euo pipefail

# package: what it is for
readonly BUILD_PACKAGES="
ca-certificates: trusted downloads
ccache: fast rebuilds
cmake: build system
g++: C++20 compiler
git: source history
libcli11-dev: command line
libfmt-dev: text formatting
libhdf5-dev: token shards (HDF5)
libhwy-dev: SIMD kernels (Highway)
libopenmpi-dev: several ranks (MPI), to build
libspdlog-dev: logging
libssl-dev: SHA-256
libutf8proc-dev: Unicode normalization
libxxhash-dev: checksums
libyaml-cpp-dev: configuration files
libzstd-dev: compressed text
ninja-build: build system
nlohmann-json3-dev: JSON
openmpi-bin: several ranks (MPI), to run
pkg-config: finds libraries
"
readonly BUNDLE_PACKAGES="
binutils: strip and objdump
patchelf: relocatable programs
xz-utils: the archive
"
readonly TEST_PACKAGES="
clang-format: the project's code style
iproute2: the loopback interface of a test without network
libbenchmark-dev: benchmarks
libboost-context-dev: kernels of the CUDA backend run on the CPU
libdnnl-dev: what matrix products are measured against (oneDNN)
libgtest-dev: unit tests
libpcre2-dev: reference for the tokenizer's own patterns
librapidcheck-dev: property tests
python3-venv: comparison with PyTorch and transformers (tests only)
"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

check_only=false
packages=$BUILD_PACKAGES
for argument in "$@"; do
  case $argument in
    --check) check_only=true ;;
    --bundle) [[ $packages == *"$BUNDLE_PACKAGES"* ]] || packages+=$BUNDLE_PACKAGES ;;
    --tests) packages=$BUILD_PACKAGES$BUNDLE_PACKAGES$TEST_PACKAGES ;;
    -h | --help) usage; exit 0 ;;
    *) echo "install_deps.sh: unknown option '$argument'; see --help" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "install_deps.sh: this system has no apt; install by hand what these lines name:" >&2
  echo "$packages" >&2
  exit 1
fi

is_installed() {
  dpkg-query -W -f '${db:Status-Status}\n' "$1" 2> /dev/null | grep -qx installed || python_has_venv "$1"
}

# A Python from elsewhere (pyenv, a tarball) may bring venv along without the package.
python_has_venv() { [[ $1 == python3-venv ]] && python3 -c 'import ensurepip, venv' 2> /dev/null; }

missing=()
while IFS=: read -r package purpose; do
  if [[ -n $package ]] && ! is_installed "$package"; then
    missing+=("$package")
    printf '  missing: %-20s %s\n' "$package" "$purpose"
  fi
done <<< "$packages"

# What the build asks for and older systems (Ubuntu 22.04) do not have: better said here than by a compiler error.
check_tools() {
  local cmake_version gcc_version
  cmake_version=$(cmake --version | sed -n 's/^cmake version //p')
  if ! printf '3.25\n%s\n' "$cmake_version" | sort --version-sort --check=quiet; then
    echo "install_deps.sh: CMake $cmake_version is too old, 3.25 is needed (Debian 12, Ubuntu 24.04 or newer)" >&2
    return 1
  fi
  gcc_version=$(g++ -dumpversion)
  if ((${gcc_version%%.*} < 12)); then
    echo "install_deps.sh: g++ $gcc_version is too old, 12 is needed (Debian 12, Ubuntu 24.04 or newer)" >&2
    return 1
  fi
}

if ((${#missing[@]} == 0)); then
  echo "All packages are installed."
  check_tools
  exit
fi
if $check_only; then
  echo "${#missing[@]} missing; launch/install_deps.sh installs them."
  exit 1
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo > /dev/null; then
    echo "install_deps.sh: neither root nor sudo; ask an administrator for: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Retries=3 "$@"; }

echo "Installing ${#missing[@]} packages with apt-get."
apt update || { sleep 5; apt update; }  # mirrors are briefly inconsistent while they are refreshed
apt install --no-install-recommends "${missing[@]}"
check_tools

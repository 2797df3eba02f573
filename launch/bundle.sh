#!/usr/bin/env bash
# Puts a built tree and all it needs into one folder that runs from anywhere: for machines without network or packages.
#
#   launch/bundle.sh [options]      -> build/bundle/terroir-VERSION-ARCH/ and the same as .tar.xz
#
#   --build DIR     the built tree, default build/release
#   --out DIR       default build/bundle
#   --no-tests      without test and benchmark programs: what a site installs
#
# Inside: bin/ (terroir, its modules, mpirun, orted), lib/ (every library they load, Open MPI's plug-ins in
# lib/openmpi3), configs/, launch/, data/samples/, docs/, licenses/, VERSION. Not inside, since they belong to the target
# machine: glibc, and what goes with its drivers: CUDA, cuDNN, NCCL, InfiniBand and similar fabrics.
#
# The archive is refused above 60 MiB. XZ_OPT in the environment sets how hard xz works (the default is -6 -T0).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/op_tests.sh
source launch/op_tests.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

readonly LIMIT_MIB=60
# Libraries of the target machine. First glibc: libraries and the kernel's loader are one piece.
readonly GLIBC='^(linux-vdso|ld-linux.*|ld64|libc|libm|libmvec|libpthread|libdl|librt|libresolv|libutil|libanl|libnsl|libnss_.*|libthread_db|libBrokenLocale)\.so'
readonly CUDA='^lib(cuda|cudart|cublas|cublasLt|cudnn.*|nccl|nvrtc.*|nvJitLink|nvToolsExt|nvidia-.*|cufft|curand|cusparse|cusolver|cupti)\.so'
# A plug-in of Open MPI that needs one of these stays out, as does what only serves OpenSHMEM.
readonly FABRIC='^lib(ibverbs|rdmacm|fabric|ucp|uct|ucs|ucm|psm2|psm_infinipath|oshmem)\.so'
readonly SCRIPTS=(gpu_check.sh local_mpi.sh op_tests.sh ranks.sh train.sbatch train_cluster.sh)

fail() { echo "bundle.sh: $*" >&2; exit 1; }

build=build/release out=build/bundle tests=true
while (($#)); do
  case $1 in
    --build) build=${2:?--build needs a folder}; shift ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    --no-tests) tests=false ;;
    -h | --help) usage; exit 0 ;;
    *) echo "bundle.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done
[[ -x $build/bin/terroir ]] || fail "there is no $build/bin/terroir: build first (cmake --build --preset release)"
for tool in patchelf xz strip objdump ldd mpirun orted; do
  command -v "$tool" > /dev/null || fail "$tool is missing; launch/install_deps.sh --bundle installs what is needed"
done

# 0.1.0-g1a2b3c4 (no tag), v0.2.0 or v0.2.0-5-g1a2b3c4; -dirty if the checkout has changes; 0.1.0 without git.
version_name() {
  local project described
  project=$(sed -n 's/^CMAKE_PROJECT_VERSION:.*=//p' "$build/CMakeCache.txt")
  described=$(git describe --tags --match 'v[0-9]*' --dirty 2> /dev/null) && { echo "${described#v}"; return; }
  described=$(git describe --always --exclude '*' --dirty 2> /dev/null) && { echo "$project-g$described"; return; }
  echo "$project"
}

version=$(version_name)
readonly version
name=terroir-$version-$(uname -m)
readonly name
mkdir -p "$out"
bundle=$(cd "$out" && pwd)/$name
readonly bundle archive=$bundle.tar.xz
rm -rf "$bundle" "$archive"
mkdir -p "$bundle"/{bin,configs,data,docs,etc,launch,lib/openmpi3,libexec,licenses,share}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# needed FILE...: "name path" of every library that loading the files loads; the path is "not" where there is none.
needed() {
  local file
  for file in "$@"; do
    ldd "$file"
  done | awk '$2 == "=>" { print $1, $3 }' | sort -u
}

copy_programs() {
  local file
  for file in "$build"/bin/*; do
    case ${file##*/} in
      terroir | libterroir_mpi.so | libterroir_cuda.so) ;;
      *) $tests || continue ;;
    esac
    cp "$file" "$bundle/bin/"
  done
  $tests || return 0
  # For gpu_check.sh: the tests of kernels, and what measures PyTorch beside.
  mkdir -p "$bundle/share/bench"
  cp tests/bench/torch_training.py "$bundle/share/bench/"
  op_tests_of "$build" > "$bundle/share/op_tests"
}

# Open MPI: the programs, their plug-ins and settings. Both programs get a wrapper in bin/, since they find the rest
# by environment variables only.
copy_mpi() {
  local plugins file
  cp -L "$(command -v mpirun)" "$bundle/libexec/mpirun"
  cp -L "$(command -v orted)" "$bundle/libexec/orted"
  plugins=$(find_mpi_plugins)
  for file in "$plugins"/*.so; do
    if ! needed "$file" | grep -qE "$FABRIC|$CUDA|=> not|^[^ ]+ not$"; then
      cp "$file" "$bundle/lib/openmpi3/"
    fi
  done
  [[ ! -d /etc/openmpi ]] || cp -rL /etc/openmpi "$bundle/etc/"
  [[ ! -d /usr/share/openmpi ]] || { mkdir -p "$bundle/share/openmpi" && cp -L /usr/share/openmpi/help-*.txt "$bundle/share/openmpi/"; }
  write_wrapper mpirun
  write_wrapper orted
}

find_mpi_plugins() {
  local folder
  folder=$(dirname "$(readlink -f "$(needed "$build/bin/libterroir_mpi.so" | awk '$1 ~ /^libmpi\.so/ { print $2 }')")")
  for folder in "$folder" "$folder/openmpi/lib"; do
    if [[ -f $folder/openmpi3/mca_pml_ob1.so ]]; then
      echo "$folder/openmpi3"
      return
    fi
  done
  fail "Open MPI's plug-ins are not where they were expected ($folder/openmpi3)"
}

write_wrapper() {
  sed "s/@program@/$1/g" > "$bundle/bin/$1" << 'WRAPPER'
#!/bin/sh
# Open MPI's @program@, told where this folder is.
self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self") || exit
  case $target in
    /*) self=$target ;;
    *) self=${self%/*}/$target ;;
  esac
done
bundle=$(cd -P "${self%/*}/.." && pwd) || exit
export OPAL_PREFIX="$bundle" OPAL_LIBDIR="$bundle/lib" OPAL_SYSCONFDIR="$bundle/etc/openmpi"
export PMIX_MCA_pcompress_base_silence_warning=1
# PMIx crashes where neither HOME nor /etc/passwd names a folder.
export HOME="${HOME:-/}"
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
# In containers everybody is root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# One machine without ssh: Open MPI would look for it, and give up, even where all ranks are local.
if [ -z "${SLURM_JOB_ID-}" ] && ! command -v ssh > /dev/null 2>&1 && ! command -v rsh > /dev/null 2>&1; then
  export OMPI_MCA_plm="${OMPI_MCA_plm-isolated}"
fi
exec "$bundle/libexec/@program@" "$@"
WRAPPER
  chmod 755 "$bundle/bin/$1"
}

# Every library of programs and plug-ins, under the name that is asked for; $work/libraries keeps where from.
copy_libraries() {
  local missing
  needed "$bundle"/bin/* "$bundle"/libexec/* "$bundle"/lib/openmpi3/*.so 2> /dev/null \
    | grep -vE "$GLIBC" | grep -vE "$CUDA" > "$work/libraries" || true
  missing=$(awk '$2 == "not" { print $1 }' "$work/libraries")
  [[ -z $missing ]] || fail "not found on this machine:" "$missing"
  while read -r library path; do
    cp -L "$path" "$bundle/lib/$library"
  done < "$work/libraries"
  chmod -R u+w "$bundle/lib"
}

# Programs and libraries, without the wrappers.
binaries() { find "$bundle/bin" "$bundle/lib" "$bundle/libexec" -type f -exec sh -c 'head -c 4 "$1" | grep -q ELF' sh {} \; -print; }

strip_and_relocate() {
  local file
  while read -r file; do
    strip --strip-unneeded "$file"
    # As DT_RPATH, which comes before LD_LIBRARY_PATH: a site's variable must not mix in other versions.
    # shellcheck disable=SC2016  # $ORIGIN is the loader's
    case ${file#"$bundle/"} in
      lib/openmpi3/*) patchelf --force-rpath --set-rpath '$ORIGIN/..' "$file" ;;
      lib/*) patchelf --force-rpath --set-rpath '$ORIGIN' "$file" ;;
      *) patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$file" ;;
    esac
  done < "$work/binaries"
}

copy_text() {
  cp configs/*.yaml "$bundle/configs/"
  cp -r data/samples "$bundle/data/"
  cp docs/install.md docs/configuration.md "$bundle/docs/"
  cp LICENSE "$bundle/"
  cp "${SCRIPTS[@]/#/launch/}" "$bundle/launch/"
}

# Packages (Debian's) that own the files on standard input. Files that no package owns are not named: a site's own MPI.
packages_of() {
  # Since /lib became a link to /usr/lib, a package may know its files under either name.
  sed 'p;s|^/usr/lib/|/lib/|;t;s|^/lib/|/usr/lib/|' | sort -u | xargs -r dpkg-query -S 2> /dev/null \
    | sed -n 's/^\([^ :,]*\).*/\1/p' | sort -u
}

# Licences of the libraries, and of the headers that are compiled in.
copy_licenses() {
  local package text
  {
    awk '{ print $2 }' "$work/libraries" | xargs realpath -s
    awk '{ print $2 }' "$work/libraries" | xargs realpath
    realpath "$(command -v mpirun)"
    ninja -C "$build" -t deps | sed -n 's|^ *\(/usr/include/.*\)|\1|p'
  } | packages_of > "$work/packages" || true
  while read -r package; do
    text=/usr/share/doc/$package/copyright
    [[ ! -f $text ]] || cp -L "$text" "$bundle/licenses/$package"
  done < "$work/packages"
  # What those texts refer to instead of quoting.
  grep -rhoE '/usr/share/common-licenses/[A-Za-z0-9.+-]*[A-Za-z0-9]' "$bundle/licenses" | sort -u | while read -r text; do
    [[ ! -f $text ]] || cp -L "$text" "$bundle/licenses/common-${text##*/}"
  done
}

# "2.36 bin/terroir", highest first: what each file asks of glibc.
glibc_versions() {
  local file
  while read -r file; do
    objdump -T "$file" | { grep -oE 'GLIBC_[0-9.]+' || true; } | sed "s|^GLIBC_\(.*\)|\1 ${file#"$bundle/"}|" | sort -u
  done < "$work/binaries" | sort --version-sort -r
}

write_version() {
  cat > "$bundle/VERSION" << VERSION
terroir $version
commit $(git rev-parse HEAD 2> /dev/null || echo unknown)
date $(date -u +%Y-%m-%dT%H:%M:%SZ)
arch $(uname -m)
glibc $1
VERSION
}

largest_files() { find "$bundle" -type f -printf '%s %P\n' | sort -rn | head -n 15 | awk '{ printf "  %6.1f MiB  %s\n", $1 / 1048576, $2 }'; }

copy_programs
copy_mpi
copy_libraries
binaries > "$work/binaries"
strip_and_relocate
copy_text
copy_licenses
glibc_versions > "$work/glibc"
read -r glibc glibc_file < "$work/glibc"
write_version "$glibc"

XZ_OPT=${XZ_OPT:--6 -T0} tar -C "$out" --owner=0 --group=0 --sort=name -cJf "$archive" "$name"
size=$(stat -c %s "$archive")
printf '%s\n' "$bundle"
printf 'size: %s MiB, %s files\n' "$(du -sm --apparent-size "$bundle" | cut -f1)" "$(find "$bundle" -type f | wc -l)"
printf 'compressed: %d.%d MiB, %s\n' $((size >> 20)) $(((size % 1048576) * 10 >> 20)) "$archive"
printf 'glibc: %s or newer, needed by %s\n' "$glibc" "$glibc_file$(awk -v top="$glibc" 'NR > 1 && $1 == top { printf ", %s", $2 }' "$work/glibc")"
if ((size > LIMIT_MIB << 20)); then
  largest_files >&2
  rm "$archive"
  fail "the archive is larger than $LIMIT_MIB MiB; the largest files are listed above"
fi

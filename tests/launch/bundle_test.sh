#!/usr/bin/env bash
# A bundle runs where there is nothing else: unpacked into a folder that becomes the root, with the host's glibc and a
# shell (dash, for the wrapper of mpirun), no network, empty environment.   bundle_test.sh BUILD_DIR
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
readonly root

skip() { echo "SKIPPED: $*"; exit 77; }

# Libraries of glibc, a shell, empty folders.
make_bare_root() {
  local loader libc file
  mkdir -p "$1"/{bin,dev/shm,proc,sys,tmp,work}
  touch "$1"/dev/{null,urandom}
  loader=$(ldd /bin/sh | awk '/ld-linux|ld64/ { print $1 }')
  libc=$(dirname "$(ldd /bin/sh | awk '/libc\.so/ { print $3 }')")
  mkdir -p "$1/$(dirname "$loader")" "$1/$libc"
  cp -L "$loader" "$1/$loader"
  for file in libc.so.6 libm.so.6 libmvec.so.1 libpthread.so.0 libdl.so.2 librt.so.1 libresolv.so.2 libutil.so.1; do
    [[ ! -e $libc/$file ]] || cp -L "$libc/$file" "$1/$libc/"
  done
  cp -L "$(command -v dash)" "$1/bin/sh"
}

# Programs, libraries and plug-ins, those that the run below does not load too. CUDA's are the target's.
every_library_is_there() {
  local bare=$1 bundle=$2 loader file missing
  loader=$(ldd /bin/sh | awk '/ld-linux|ld64/ { print $1 }')
  while read -r file; do
    [[ $(head -c 4 "$bare/$file") == $'\x7fELF' && $file != */libterroir_cuda.so ]] || continue
    missing=$(env -i "$(command -v chroot)" "$bare" "$loader" --list "$file" 2>&1 | grep -E 'not found|error' \
      | grep -vE 'lib(cuda|cudart|cublas|cublasLt|cudnn[a-z_]*|nccl)\.so' || true)
    [[ -z $missing ]] || { echo "FAILED: $file: $missing"; return 1; }
  done < <(cd "$bare" && find ".$bundle"/{bin,lib,libexec} -type f | sed 's/^\.//')
}

# In namespaces of its own: what the kernel offers, then the bundle's programs.
run_inside() {
  local bare=$1 bundle=/work/$2 file
  mount --rbind /proc "$bare/proc"
  mount --rbind /sys "$bare/sys"
  mount -t tmpfs tmpfs "$bare/dev/shm"
  for file in null urandom; do
    mount --bind "/dev/$file" "$bare/dev/$file"
  done
  ip link set lo up

  run() { echo "-- $*"; env -i "$(command -v chroot)" "$bare" "$@"; }
  every_library_is_there "$bare" "$bundle"
  run "$bundle/bin/terroir" doctor
  run "$bundle/bin/terroir" doctor | grep -q 'MPI transport *loaded'
  run "$bundle/bin/terroir" tokenizer train --vocab-size 400 --out /work/tokenizer.json "$bundle/data/samples/sw.txt"
  run "$bundle/bin/terroir" data build --tokenizer /work/tokenizer.json --language sw --license Apache-2.0 \
    --source samples --out /work/shards "$bundle/data/samples/sw.txt"
  run "$bundle/bin/mpirun" -np 2 "$bundle/bin/terroir" train "$bundle/configs/quickstart.yaml" run.dir=/work/runs \
    run.name=bundle tokenizer=/work/tokenizer.json 'data.stages=[{sources: {sw: 1}}]' \
    'data.sources={sw: {shards: /work/shards/*.h5}}' parallel.pipeline=1 train.steps=3 schedule.warmup_steps=0 \
    schedule.decay_steps=1 eval.max_samples=1 > "$bare/work/train.log" 2>&1 || { cat "$bare/work/train.log"; return 1; }
  cat "$bare/work/train.log"
  # What Open MPI says of plug-ins, settings or messages that it does not find.
  if grep -nE 'unknown option|unable to find|could not be (found|opened)|WARNING|not found' "$bare/work/train.log"; then
    echo "FAILED: mpirun complains"
    return 1
  fi
  grep -q 'step 3/3' "$bare/work/train.log"
  run "$bundle/bin/terroir" export hf --checkpoint /work/runs/bundle --out /work/hf
  [[ -s $bare/work/hf/model.safetensors ]]
  run "$bundle/bin/terroir" generate --checkpoint /work/runs/bundle --prompt "Hapo zamani" --max-new-tokens 8
}

if [[ ${1-} == --inside ]]; then
  run_inside "$2" "$3"
  exit
fi

readonly build=${1:?usage: bundle_test.sh BUILD_DIR}
for tool in patchelf xz unshare chroot dash ip; do
  command -v "$tool" > /dev/null || skip "$tool is not installed"
done
namespaces=(--mount --net --pid --fork)
((EUID == 0)) || namespaces+=(--user --map-root-user)
unshare "${namespaces[@]}" true 2> /dev/null || skip "this system permits no namespaces of one's own"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
XZ_OPT=-1 "$root/launch/bundle.sh" --build "$build" --out "$folder/out"
make_bare_root "$folder/bare"
tar -C "$folder/bare/work" -xJf "$folder"/out/terroir-*.tar.xz
name=$(basename "$folder"/bare/work/terroir-*)
rm -rf "$folder/out"
unshare "${namespaces[@]}" "$0" --inside "$folder/bare" "$name"

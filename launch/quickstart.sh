#!/usr/bin/env bash
# The whole way, from text to a model that speaks (badly): packages, build, text in several languages, tokenizer,
# token shards, training on four MPI ranks (tensor 2 x pipeline 2), Hugging Face export, generated lines, HTML report.
#
#   launch/quickstart.sh [options]
#
#   --languages "ko vi"   some of ko ar tl vi th id (together the default), hi sw en
#   --steps N             training steps instead of those of configs/quickstart.yaml
#   --offline             no downloads: only the sample texts in data/samples
#   --no-install          never calls apt; stops if something is missing
#   --dir DIR             puts data/quickstart and runs/quickstart below DIR instead of here
#
# Interrupted and run again, it goes on: finished phases are skipped while what they read is the same, and training
# continues from its newest checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=launch/phases.sh
source launch/phases.sh
# shellcheck source=launch/local_mpi.sh
source launch/local_mpi.sh
# shellcheck source=launch/ranks.sh
source launch/ranks.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

readonly CONFIG=configs/quickstart.yaml
readonly VOCAB_SIZE=8192
readonly RANKS=4

# Warm-up, decay, checkpoints and evaluations in proportion.
scale_to_steps() {
  [[ $1 =~ ^[1-9][0-9]*$ ]] || { echo "quickstart.sh: --steps needs a number" >&2; exit 2; }
  overrides+=("train.steps=$1" "schedule.warmup_steps=$(($1 / 10))" "schedule.decay_steps=$(($1 * 3 / 10))"
    "checkpoint.every=$((($1 + 3) / 4))" "eval.every=$((($1 + 3) / 4))")
}

dir=.
languages=(ko ar tl vi th id)
install_options=()
fetch_options=()
overrides=()
install=true
while (($#)); do
  case $1 in
    --languages) read -r -a languages <<< "${2:?--languages needs a list}"; shift ;;
    --steps) scale_to_steps "${2-}"; shift ;;
    --offline) fetch_options+=(--offline) ;;
    --no-install) install=false ;;
    --dir) dir=${2:?--dir needs a folder}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "quickstart.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done
$install || install_options+=(--check)

readonly data=$dir/data/quickstart
readonly run=$dir/runs/quickstart
readonly tokenizer=$data/tokenizer.json
readonly terroir=build/release/bin/terroir

# What a generated line begins with.
declare -rA PROMPTS=(
  [ar]="في يوم من الأيام" [en]="Once upon a time" [hi]="एक समय की बात है" [id]="Pada suatu hari"
  [ko]="옛날 어느 마을에" [sw]="Hapo zamani za kale" [th]="กาลครั้งหนึ่งนานมาแล้ว" [tl]="Noong unang panahon"
  [vi]="Ngày xửa ngày xưa"
)

# once NAME FILE... -- COMMAND...: runs COMMAND, unless it has ended well before with the same words and the same
# content of FILEs.
once() {
  local name=$1 files=() stamp=$data/.done/$1 key
  shift
  while [[ $1 != -- ]]; do
    files+=("$1")
    shift
  done
  shift
  key=$({ sha256sum "${files[@]}"; printf '%s\n' "$@"; } | sha256sum)
  if [[ -f $stamp && $(< "$stamp") == "$key" ]]; then
    echo "$name: done before"
    return
  fi
  rm -f "$stamp"
  "$@"
  mkdir -p "$data/.done"
  echo "$key" > "$stamp"
}

build() {
  local launcher=()
  if command -v ccache > /dev/null; then
    launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  # A folder set up by launch/test.sh keeps its tests: only what is needed here is built.
  [[ -f build/release/build.ninja ]] || cmake --preset release -DTERROIR_BUILD_TESTS=OFF "${launcher[@]}"
  cmake --build --preset release --target terroir terroir_mpi
}

# The licences of a language's text, as one SPDX expression.
license_of() {
  awk -F '\t' -v language="$1" '$1 == language && !seen[$3]++ { printf "%s%s", separator, $3; separator = " AND " }' \
    "$data/corpus/sources.tsv"
}

build_shards() {
  "$terroir" data build --overwrite --tokenizer "$tokenizer" --language "$1" --license "$(license_of "$1")" \
    --source "$1" --out "$data/shards/$1" "$data/corpus/$1.jsonl"
}

# The configuration's paths and mixture, for these languages and this folder.
data_overrides() {
  local language weights="" sources=""
  for language in "${languages[@]}"; do
    weights+="$language: 1, "
    sources+="$language: {shards: '$data/shards/$language/*.h5', language: $language, license: '$(license_of "$language")'}, "
  done
  overrides+=("run.dir=$dir/runs" "tokenizer=$tokenizer" "data.stages=[{sources: {$weights}}]" "data.sources={$sources}")
}

# A run folder belongs to one configuration and one set of shards: that of another is put aside, not overwritten.
put_other_run_aside() {
  local key aside
  key=$({ cat "$CONFIG" "$data"/shards/*/*.manifest.json; printf '%s\n' "${overrides[@]}"; } | sha256sum)
  if [[ -d $run && $(cat "$data/.done/run" 2> /dev/null) != "$key" ]]; then
    aside=$run-$(date +%Y%m%d-%H%M%S)
    echo "An earlier run with other text or settings is now $aside."
    mv "$run" "$aside"
  fi
  echo "$key" > "$data/.done/run"
}

train() {
  local status=0
  run_ranks mpirun -np "$RANKS" "$terroir" train "$CONFIG" "${overrides[@]}" || status=$?
  ((status != 75)) || echo "Interrupted and saved; run the same command again to go on."
  return "$status"
}

# One line a language on the terminal, and the same as JSON for the report.
write_samples() {
  local language newest step options reply
  newest=$(find "$run/checkpoints" -maxdepth 1 -name 'step-*' | sort | tail -n 1)
  step=$((10#${newest##*-}))
  : > "$run/samples.jsonl.tmp"
  for language in "${languages[@]}"; do
    options=(--checkpoint "$newest" --prompt "${PROMPTS[$language]}" --max-new-tokens 40 --seed 1)
    printf '%s: ' "$language"
    "$terroir" generate "${options[@]}"
    reply=$("$terroir" generate "${options[@]}" --json)
    printf '{"language":"%s","step":%d,%s\n' "$language" "$step" "${reply#\{}" >> "$run/samples.jsonl.tmp"
  done
  mv "$run/samples.jsonl.tmp" "$run/samples.jsonl"
}

phase "packages"
launch/install_deps.sh "${install_options[@]}"

phase "build"
build

phase "text: documentation packages and samples in ${languages[*]}"
launch/fetch_corpus.sh "${fetch_options[@]}" --out "$data/corpus" "${languages[@]}"
corpus=("${languages[@]/#/$data/corpus/}")
corpus=("${corpus[@]/%/.jsonl}")

phase "tokenizer: byte-level BPE, $VOCAB_SIZE tokens"
once tokenizer "${corpus[@]}" -- \
  "$terroir" tokenizer train --vocab-size "$VOCAB_SIZE" --pretokenizer llama-3 --out "$tokenizer" "${corpus[@]}"

phase "token shards (HDF5)"
for language in "${languages[@]}"; do
  once "shards-$language" "$tokenizer" "$data/corpus/$language.jsonl" -- build_shards "$language"
done

phase "training on $RANKS MPI ranks: tensor 2 x pipeline 2"
data_overrides
put_other_run_aside
train

phase "export to Hugging Face format"
rm -rf "$run/hf"
"$terroir" export hf --checkpoint "$run" --out "$run/hf"

phase "a line in each language"
write_samples

phase "report"
"$terroir" report "$run"

phases_summary
cat << END

Report (open in a browser):  $run/report.html
Model, Hugging Face format:  $run/hf
Checkpoints, metrics, logs:  $run
Text with its licences:      $data/corpus, summed up in sources.tsv

Ask it for more:             $terroir generate --checkpoint $run --prompt "${PROMPTS[${languages[0]}]}"
END

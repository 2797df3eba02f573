#!/usr/bin/env bash
# Text in regional languages that anyone may use: documentation and translations from the system's package archive,
# and the project's own samples.
#
#   launch/fetch_corpus.sh [--offline] [--out DIR] [LANGUAGE...]
#
#   LANGUAGE     ko ar tl vi th id (the default), hi sw en
#   --offline    samples only
#   --out DIR    default data/quickstart/corpus
#
# Writes DIR/LANGUAGE.jsonl, one document a line: {"id", "text", "source", "license", "origin"}, and DIR/sources.tsv:
# language, source, licence, documents, bytes of text. Packages are downloaded (about 30 MB for the default languages) and
# unpacked, not installed; no root needed. What cannot be had is named and left out: without network, samples remain.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

# language, package, format (see extract_text.pl), where the text lies in the package, licence (SPDX).
readonly SOURCES="
ar libreoffice-l10n-ar    mo     usr/lib/libreoffice/program/resource/ar MPL-2.0
ar chromium-l10n          pak    usr/lib/chromium/locales/ar.pak         BSD-3-Clause
en libreoffice-help-en-us markup usr/share/libreoffice/help/en-US/text   MPL-2.0
hi libreoffice-help-hi    markup usr/share/libreoffice/help/hi/text      MPL-2.0
hi gnome-user-docs        markup usr/share/help/hi                       CC-BY-SA-3.0
hi chromium-l10n          pak    usr/lib/chromium/locales/hi.pak         BSD-3-Clause
id libreoffice-help-id    markup usr/share/libreoffice/help/id/text      MPL-2.0
id gnome-user-docs        markup usr/share/help/id                       CC-BY-SA-3.0
ko libreoffice-help-ko    markup usr/share/libreoffice/help/ko/text      MPL-2.0
ko gnome-user-docs        markup usr/share/help/ko                       CC-BY-SA-3.0
sw chromium-l10n          pak    usr/lib/chromium/locales/sw.pak         BSD-3-Clause
th libreoffice-l10n-th    mo     usr/lib/libreoffice/program/resource/th MPL-2.0
th chromium-l10n          pak    usr/lib/chromium/locales/th.pak         BSD-3-Clause
tl chromium-l10n          pak    usr/lib/chromium/locales/fil.pak        BSD-3-Clause
vi libreoffice-help-vi    markup usr/share/libreoffice/help/vi/text      MPL-2.0
vi gnome-user-docs        markup usr/share/help/vi                       CC-BY-SA-3.0
"

offline=false
out=data/quickstart/corpus
languages=()
while (($#)); do
  case $1 in
    --offline) offline=true ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "fetch_corpus.sh: unknown option '$1'; see --help" >&2; exit 2 ;;
    *)
      [[ -f data/samples/$1.txt ]] || { echo "fetch_corpus.sh: no language '$1'; see --help" >&2; exit 2; }
      languages+=("$1")
      ;;
  esac
  shift
done
((${#languages[@]})) || languages=(ko ar tl vi th id)

mkdir -p "$out"
out=$(cd "$out" && pwd)
readonly packages=$out/packages  # downloaded ones are kept: a second run downloads nothing
mkdir -p "$packages"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT

# The system's package lists, or, where there are none (containers) or old ones, lists of our own.
apt_options=(-q -o APT::Sandbox::User=root -o Acquire::Retries=2 -o Acquire::http::Timeout=20)
own_lists() {
  [[ ${apt_options[*]} != *Dir::State::lists* ]] || return 1  # only once
  mkdir -p "$packages/apt/lists" "$packages/apt/cache"
  apt_options+=(-o Dir::State::lists="$packages/apt/lists" -o Dir::Cache="$packages/apt/cache")
  apt-get "${apt_options[@]}" -o Debug::NoLocking=1 -o APT::Update::Error-Mode=any update &> "$packages/apt.log"
}

# Under a temporary name first: an interrupted download must not pass for the package.
download() {
  rm -rf "$packages/partial"
  mkdir "$packages/partial"
  (cd "$packages/partial" && apt-get "${apt_options[@]}" download "$1") &> "$packages/apt.log" \
    && mv "$packages/partial/$1"_*.deb "$packages/"
}

archive_of() { find "$packages" -maxdepth 1 -name "$1_*.deb" | sort --version-sort | tail -n 1; }

# unpack PACKAGE: its files below $unpacked/PACKAGE; false if it cannot be had.
unpack() {
  [[ -d $unpacked/$1 ]] && return
  if [[ -z $(archive_of "$1") ]]; then
    $offline && return 1
    download "$1" || { own_lists && download "$1"; } || return 1
  fi
  dpkg-deb -x "$(archive_of "$1")" "$unpacked/$1"
}

# list_files LANGUAGE: what extract_text.pl reads.
list_files() {
  local language package format path license version
  printf 'lines\tterroir-samples\tApache-2.0\tdata/samples/%s.txt\tdata/samples/%s.txt\n' "$1" "$1"
  while read -r language package format path license; do
    [[ $language == "$1" ]] || continue
    if ! unpack "$package"; then
      $offline || echo "  $1: $package is not to be had: $(grep -m1 '^[EW]:' "$packages/apt.log" || true)" >&2
      continue
    fi
    version=$(dpkg-deb -f "$(archive_of "$package")" Version)
    find "$unpacked/$package/$path" -type f \( -name '*.html' -o -name '*.page' -o -name '*.mo' -o -name '*.pak' \) | sort \
      | sed "s|.*|$format\t$package\t$license\tpackage $package $version\t&|"
  done <<< "$SOURCES"
}

summary=$(mktemp -p "$out")
for language in "${languages[@]}"; do
  temporary=$(mktemp -p "$out")
  list_files "$language" > "$unpacked/list.tsv"
  perl launch/extract_text.pl "$language" "$summary" < "$unpacked/list.tsv" > "$temporary"
  chmod 644 "$temporary"
  mv "$temporary" "$out/$language.jsonl"
done
awk -F '\t' '{ printf "  %s: %-24s %-14s %6d documents %6.2f MB\n", $1, $2, $3, $4, $5 / 1e6 }' "$summary"
chmod 644 "$summary"
mv "$summary" "$out/sources.tsv"

#!/usr/bin/env bash
# README's "Your own text", as it stands there but for fewer steps.   readme_test.sh TERROIR
set -euo pipefail
terroir=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
ln -s "$root/configs" "$root/launch" .
mkdir -p build/release
ln -s "$(dirname "$terroir")" build/release/bin
while read -r line; do
  printf '{"text": "%s"}\n' "${line//\"/}"
done < "$root/data/samples/sw.txt" > mine.jsonl

# shellcheck disable=SC2016  # backquotes are meant
sed -n '/^## Your own text/,/^## /{/^```/,/^```/{/^```/d;p}}' "$root/README.md" > commands.sh
grep -q 'run.name=mine' commands.sh || { echo "README has changed: adapt this test"; exit 1; }
sed -i 's/run.name=mine/& train.steps=2 schedule.warmup_steps=0 schedule.decay_steps=1 eval.max_samples=1/' commands.sh
bash -euo pipefail commands.sh
[[ -s model/config.json && -s model/model.safetensors && -s model/tokenizer.json ]]

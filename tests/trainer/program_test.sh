#!/usr/bin/env bash
# program_test.sh TERROIR: what only the whole program can show, on a model made in a second.
set -euo pipefail
terroir=$1
samples=$(cd "$(dirname "$0")/../../data/samples" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# expect CODE WORDS COMMAND...: it ends with CODE, and stderr says WORDS.
expect() {
  local code=$1 words=$2 status=0
  shift 2
  "$@" > out 2> err || status=$?
  ((status == code)) || { echo "FAILED: $* ended with $status instead of $code: $(cat err)"; exit 1; }
  grep -q -- "$words" err || { echo "FAILED: $* does not say \"$words\": $(cat err)"; exit 1; }
}
to_full_disk() { "$@" > /dev/full; }

for size in 300 400; do
  "$terroir" --quiet tokenizer train --vocab-size "$size" --out "$size.json" "$samples/ko.txt"
done
"$terroir" --quiet data build --tokenizer 300.json --language ko --license CC0-1.0 --source ko --out shards "$samples/ko.txt"
cat > run.yaml << 'END'
run: {name: run, dir: .}
model: {hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1}
tokenizer: 300.json
data: {sequence_length: 16, stages: [{sources: {ko: 1}}], sources: {ko: {shards: shards/*.h5}}}
train: {steps: 1, global_batch_size: 1, micro_batch_size: 1}
END
"$terroir" --quiet train run.yaml
echo "옛날" > text.txt

# A result that could not be written is not a success.
expect 5 "standard output: No space" to_full_disk "$terroir" eval --checkpoint run --text text.txt --json
expect 5 "standard output: No space" to_full_disk "$terroir" config show run.yaml

# A wrong path is the user's mistake, not ours.
expect 2 "No such file" "$terroir" report run --out missing/report.html
expect 2 "File name too long" "$terroir" checkpoint list "$(printf 'x%.0s' {1..300})"

# An imported tokenizer with more tokens than the model has rows.
"$terroir" --quiet export hf --checkpoint run --out hf
cp 400.json hf/tokenizer.json
"$terroir" --quiet import hf hf --out imported
expect 4 "beyond the model's vocabulary of 300" "$terroir" eval --checkpoint imported --text "$samples/ko.txt" --json
"$terroir" generate --checkpoint imported --prompt a --max-new-tokens 20 --json > out

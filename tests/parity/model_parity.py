#!/usr/bin/env python3
"""The same models in Terroir and in transformers: logits, log-likelihoods, greedy text, token ids, both ways.

    python3 tests/parity/model_parity.py PATH/TO/terroir

Import: random models that transformers saved, read by `import hf`; `eval --per-token` on text in every sample language
and `generate --temperature 0` against transformers. Export: `export hf` of those and of models that Terroir trained, on
one rank and on 2 x 2 ranks, read by AutoConfig, AutoTokenizer and AutoModelForCausalLM. Needs torch and transformers.
"""
import json
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy  # noqa: E402
import torch  # noqa: E402
from program import LANGUAGES, Report, Terroir, sample_lines  # noqa: E402
from random_models import Shape, make_model, save_model  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast  # noqa: E402
from transformers.utils import logging  # noqa: E402

LOG_LIKELIHOOD_TOLERANCE = 1e-4  # nats
LOGIT_TOLERANCE = 1e-4
NEW_TOKENS = 24
SHAPES = [
    Shape("llama", hidden=48, heads=6, kv_heads=2, head_dim=16, tied=True, vocab=600),
    Shape("llama", hidden=72, heads=6, kv_heads=3, head_dim=12, tied=False, vocab=1501, theta=500000.0, scaled=True),
    Shape("llama", hidden=40, heads=4, kv_heads=1, head_dim=10, tied=True, vocab=900, padding_rows=7, scaled=True),
    Shape("qwen2", hidden=60, heads=6, kv_heads=3, head_dim=10, tied=True, vocab=900, theta=1e6),
    Shape("qwen2", hidden=36, heads=6, kv_heads=2, head_dim=6, tied=False, vocab=1501),
    Shape("qwen3", hidden=50, heads=4, kv_heads=1, head_dim=24, tied=False, vocab=600, theta=1e6),
    Shape("qwen3", hidden=64, heads=6, kv_heads=2, head_dim=8, tied=True, vocab=1501, padding_rows=35),
]


def texts():
    """Three lines of each language, and one longer than the pieces in which Terroir reads a text."""
    lines = [line for language in LANGUAGES for line in sample_lines(language)[:3]]
    return [line[:200] for line in lines] + ["".join(line[:160] for line in lines)[:1000]]


def terroir_ids(terroir, tokenizer_file, lines):
    rows = terroir.run("tokenizer", "encode", "--tokenizer", tokenizer_file, "--lines", stdin="\n".join(lines))
    return [json.loads(row) for row in rows.splitlines()]


def hf_per_token(model, tokenizer, lines):
    """Negative log-likelihood of each token but the first, the beginning-of-document token."""
    losses = []
    for line in lines:
        ids = torch.tensor([tokenizer(line).input_ids])
        with torch.no_grad():
            log_probabilities = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
        losses.append(-log_probabilities.gather(1, ids[0, 1:, None])[:, 0])
    return torch.cat(losses)


def compare_logits(terroir, report, checkpoint, model, tokenizer, lines, name):
    """Every logit: log-likelihoods do not see what is added to all of them."""
    ids = [tokenizer(line).input_ids for line in lines]
    (terroir.folder / "ids.txt").write_text("\n".join(map(json.dumps, ids)) + "\n")
    terroir.helper("parity_logits", checkpoint, "ids.txt", "logits.f32")
    ours = torch.from_numpy(numpy.fromfile(terroir.folder / "logits.f32", dtype=numpy.float32))
    with torch.no_grad():
        theirs = torch.cat([model(torch.tensor([row])).logits[0] for row in ids])
    report.check(ours.numel() == theirs.numel(), f"{name}: {ours.numel()} logits")
    if ours.numel() == theirs.numel():
        difference = lambda logits: (logits.reshape(theirs.shape) - theirs).abs().max().item()
        report.below(difference(ours), LOGIT_TOLERANCE,
                     f"{name}: logits of up to {theirs.abs().max():.1f}, largest difference")
        report.check(difference(ours + 1e-3) > LOGIT_TOLERANCE, f"{name}: a constant added to all logits would be seen")


def greedy(model, tokenizer, prompt):
    """Ids after the prompt, without the end-of-document token and without padding rows of the vocabulary."""
    ids = torch.tensor([tokenizer(prompt).input_ids])
    padding_rows = list(range(len(tokenizer), model.config.vocab_size))
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS,
                         eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
                         suppress_tokens=padding_rows or None)
    return [id for id in out[0, ids.shape[1]:].tolist() if id != tokenizer.eos_token_id]


def load(hf_folder):
    model = AutoModelForCausalLM.from_pretrained(hf_folder, dtype=torch.float32).eval()
    # AutoTokenizer replaces the tokenizer of a qwen2 model by its own kind, of which `export hf` warns.
    kind = PreTrainedTokenizerFast if model.config.model_type == "qwen2" else AutoTokenizer
    return model, kind.from_pretrained(hf_folder)


def compare_text(terroir, report, checkpoint, hf_folder, name):
    """Ids and log-likelihoods of all texts."""
    lines = texts()
    model, tokenizer = load(hf_folder)
    theirs = [tokenizer(line, add_special_tokens=False).input_ids for line in lines]
    report.check(terroir_ids(terroir, hf_folder / "tokenizer.json", lines) == theirs, f"{name}: token ids")

    compare_logits(terroir, report, checkpoint, model, tokenizer, lines[::3], name)  # one of each language
    text = terroir.folder / "lines.txt"
    text.write_text("\n".join(lines), "utf-8")
    ours = torch.tensor(terroir.json("eval", "--checkpoint", checkpoint, "--text", text, "--per-token")["per_token"]).double()
    expected = hf_per_token(model, tokenizer, lines)
    report.check(ours.shape == expected.shape, f"{name}: {len(ours)} tokens")
    if ours.shape == expected.shape:
        report.below((ours - expected).abs().max().item(), LOG_LIKELIHOOD_TOLERANCE, f"{name}: log-likelihoods in "
                     f"{len(LANGUAGES)} languages, {expected.mean():.2f} nats a token, largest difference")


def compare_generation(terroir, report, checkpoint, hf_folder, name):
    model, tokenizer = load(hf_folder)
    for prompt in (sample_lines("th")[0][:40], sample_lines("sw")[1][:60]):
        ours = terroir.json("generate", "--checkpoint", checkpoint, "--prompt", prompt, "--max-new-tokens", NEW_TOKENS,
                            "--temperature", 0)["ids"]
        report.check(ours == greedy(model, tokenizer, prompt), f"{name}: {len(ours)} greedy tokens")


def import_and_export(terroir, report, shape):
    name = shape.name
    source, checkpoint, exported = (terroir.folder / f"{name}{suffix}" for suffix in ("", "-checkpoint", "-exported"))
    save_model(make_model(shape), terroir.train_tokenizer(shape.vocab, shape.pretokenizer), source)
    terroir.run("import", "hf", source, "--out", checkpoint)
    compare_text(terroir, report, checkpoint, source, f"{name}, imported")
    compare_generation(terroir, report, checkpoint, source, f"{name}, imported")
    terroir.run("export", "hf", "--checkpoint", checkpoint, "--out", exported)
    compare_text(terroir, report, checkpoint, exported, f"{name}, exported")


TRAINED = [
    ("llama-trained", 1, {}, {"model_type": "llama", "head_dim": 16}),
    ("llama-trained-2x2", 4, {"tensor": 2, "pipeline": 2}, {
        "model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 32}}),
    ("qwen2-trained", 1, {}, {"model_type": "qwen2"}),
    ("qwen3-trained-2x2", 4, {"tensor": 2, "pipeline": 2}, {"model_type": "qwen3", "head_dim": 20}),
]


def train_and_export(terroir, report, name, ranks, parallel, model):
    tokenizer = terroir.train_tokenizer(901)
    shards = terroir.folder / "mixed"
    if not shards.exists():
        terroir.build_shards(tokenizer, [line for language in LANGUAGES for line in sample_lines(language)[:6]], "mixed")
    run = terroir.train(name, {
        "model": {"hidden_size": 48, "intermediate_size": 58, "num_hidden_layers": 3, "num_attention_heads": 6,
                  "num_key_value_heads": 3, "tie_word_embeddings": True, "max_position_embeddings": 2048, **model},
        "tokenizer": str(tokenizer),
        "data": {"sequence_length": 64, "stages": [{"sources": {"mixed": 1}}], "sources": {"mixed": {"shards": f"{shards}/*.h5"}}},
        "parallel": parallel,
        "train": {"steps": 6, "global_batch_size": 8, "micro_batch_size": 2},
        "optimizer": {"lr": 0.01}}, ranks)
    exported = terroir.folder / f"{name}-exported"
    terroir.run("export", "hf", "--checkpoint", run, "--out", exported)
    config = AutoConfig.from_pretrained(exported)
    report.check(config.model_type == model["model_type"] and config.tie_word_embeddings
                 and config.max_position_embeddings == 2048, f"{name}: AutoConfig reads {type(config).__name__}")
    compare_text(terroir, report, run, exported, f"{name}, exported")
    compare_generation(terroir, report, run, exported, f"{name}, exported")


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(2)
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        terroir = Terroir(sys.argv[1], folder)
        for shape in SHAPES:
            import_and_export(terroir, report, shape)
        for case in TRAINED:
            train_and_export(terroir, report, *case)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

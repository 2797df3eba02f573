#!/usr/bin/env python3
"""Ten optimizer steps from the same weights and the same data, in Terroir and in PyTorch.

    python3 tests/parity/training_parity.py PATH/TO/terroir

PyTorch reads the tokens from Terroir's shards (docs/formats/shard.md), cuts the same windows, and trains the
transformers model in f32. One step is one pass over a corpus of exactly WINDOWS windows, so that the order of samples
does not matter. Losses, gradient norms, learning rates and final weights are compared. Needs torch, transformers, h5py.
"""
import dataclasses
import math
import os
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import h5py  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
from program import Report, Terroir, read_metrics, sample_lines  # noqa: E402
from random_models import Shape, make_model, save_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.utils import logging  # noqa: E402

WINDOWS = 8
STEPS = 10
OPTIMIZER = {"lr": 2e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1}
LOSS_TOLERANCE = 1e-5         # relative; also of gradient norms
# Of the largest change that training made to any weight. AdamW divides by the root of a running mean of squares, so
# where a gradient is close to 0 its rounding counts as much as its value: single weights differ most.
WEIGHT_TOLERANCE = 5e-3
TYPICAL_WEIGHT_TOLERANCE = 5e-5  # the same for the root mean square over all weights


@dataclasses.dataclass
class Case:
    shape: Shape
    schedule: dict
    grad_clip: float = 1.0
    ranks: int = 1
    parallel: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self):
        layout = "".join(f"-{axis[0]}{size}" for axis, size in self.parallel.items())
        return f"{self.shape.name}-{self.schedule['name']}-{self.ranks}r{layout}"


LLAMA = Shape("llama", hidden=48, heads=6, kv_heads=2, head_dim=16, tied=True, scaled=True)
QWEN2 = Shape("qwen2", hidden=60, heads=6, kv_heads=3, head_dim=10, tied=False)
QWEN3 = Shape("qwen3", hidden=50, heads=4, kv_heads=1, head_dim=24, tied=True, padding_rows=5)
WSD = {"name": "wsd", "warmup_steps": 3, "decay_steps": 4, "final_lr": 0.1}
COSINE = {"name": "cosine", "warmup_steps": 2, "final_lr": 0.2}
CONSTANT = {"name": "constant", "warmup_steps": 4}
TENSOR_PIPELINE = {"tensor": 2, "pipeline": 2}
CASES = [
    Case(LLAMA, WSD),
    Case(LLAMA, WSD, ranks=4, parallel=TENSOR_PIPELINE),
    Case(QWEN2, COSINE, grad_clip=0),
    Case(QWEN2, COSINE, ranks=4, parallel={"tensor": 2}, train={"recompute": "full"}),
    Case(QWEN3, CONSTANT, grad_clip=0.3, train={"micro_batch_size": 4}),
    Case(QWEN3, CONSTANT, ranks=4, parallel=TENSOR_PIPELINE),
]


# ---- The data, as docs/formats/shard.md describes it

def read_documents(folder):
    """Token arrays of all documents of the source, its shards end to end."""
    documents = []
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as shard:
            assert shard.attrs["split"] in ("train", b"train"), path
            tokens, offsets = shard["tokens"][:].astype(numpy.int64), shard["document_offsets"][:]
            documents += [tokens[begin:end] for begin, end in zip(offsets[:-1], offsets[1:])]
    return documents


def cut_windows(documents, length):
    """Consecutive windows of `length` tokens as [W, length] tensors: tokens, targets, positions, document numbers.

    A token's target is the next one of its document, even beyond the window; a document's last token has none (-1).
    Positions start at 0 with each window and each document."""
    tokens = numpy.concatenate(documents)
    targets = numpy.concatenate([numpy.append(document[1:], -1) for document in documents])
    numbers = numpy.repeat(numpy.arange(len(documents)), [len(document) for document in documents])
    inside = numpy.concatenate([numpy.arange(len(document)) for document in documents])
    count = len(tokens) // length
    tokens, targets, numbers, inside = (a[:count * length].reshape(count, length) for a in (tokens, targets, numbers, inside))
    first = inside[:, :1] * (numbers == numbers[:, :1])  # where the window cuts a document, its rest starts at 0
    return [torch.from_numpy(a) for a in (tokens, targets, inside - first, numbers)]


def attention_mask(documents):
    """[W, 1, S, S], added to the scores: a token sees itself and the earlier ones of its document."""
    same = documents[:, :, None] == documents[:, None, :]
    seen = same & torch.ones(documents.shape[1], documents.shape[1], dtype=torch.bool).tril()
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]


# ---- The same ten steps in PyTorch

def learning_rate(schedule, step):
    """Of step 1 to STEPS: a linear warm-up, then constant, half a cosine, or linear over the last steps."""
    lr, warmup = OPTIMIZER["lr"], schedule["warmup_steps"]
    final = lr * schedule.get("final_lr", 1)
    if step <= warmup:
        return lr * step / warmup
    if schedule["name"] == "cosine":
        return final + (lr - final) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))
    if schedule["name"] == "wsd" and step > STEPS - schedule["decay_steps"]:
        return lr + (final - lr) * (step - (STEPS - schedule["decay_steps"])) / schedule["decay_steps"]
    return lr


def train_in_pytorch(model, windows, case):
    """Trains `model` in place; metrics of each step."""
    tokens, targets, positions, documents = windows
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]  # norms and biases: no decay
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0}], **OPTIMIZER)
    mask = attention_mask(documents)
    steps = []
    for step in range(1, STEPS + 1):
        rate = learning_rate(case.schedule, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        logits = model(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), case.grad_clip or math.inf)
        optimizer.step()
        steps.append({"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": rate})
    return steps


# ---- Both, compared

def train_in_terroir(terroir, case, checkpoint, tokenizer, shards, length):
    model = {"model_type": case.shape.family, "vocab_size": case.shape.vocab + case.shape.padding_rows}
    return terroir.train(case.name, {
        "init_from": str(checkpoint),
        "model": {**model, **model_section(case.shape)},
        "tokenizer": str(tokenizer),
        "data": {"sequence_length": length, "stages": [{"sources": {"all": 1}}], "sources": {"all": {"shards": f"{shards}/*.h5"}}},
        "parallel": case.parallel,
        "train": {"steps": STEPS, "global_batch_size": WINDOWS, "micro_batch_size": 2, **case.train},
        "optimizer": {**OPTIMIZER, "grad_clip": case.grad_clip},
        "schedule": case.schedule}, case.ranks)


def model_section(shape):
    scaling = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
               "original_max_position_embeddings": 64}
    return {"hidden_size": shape.hidden, "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim,
            "tie_word_embeddings": shape.tied, "rope_theta": shape.theta, **({"rope_scaling": scaling} if shape.scaled else {})}


def largest_relative_difference(ours, theirs, key):
    return max(abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(ours, theirs))


def compare(report, case, ours, theirs):
    report.check([line["step"] for line in ours] == list(range(1, STEPS + 1)), f"{case.name}: {len(ours)} steps")
    for key, limit in (("loss", LOSS_TOLERANCE), ("grad_norm", LOSS_TOLERANCE), ("learning_rate", 1e-6)):
        report.below(largest_relative_difference(ours, theirs, key), limit,
                     f"{case.name}: {key} {theirs[0][key]:.4g} to {theirs[-1][key]:.4g}, largest relative difference")


def compare_weights(report, case, ours, theirs, before):
    """Three state dicts by Hugging Face names, without tied copies."""
    def flat(state):
        return torch.cat([state[name].flatten() for name in sorted(before)]).double()
    change = (flat(theirs) - flat(before)).abs().max()
    difference = (flat(ours) - flat(theirs)) / change
    report.below(difference.abs().max().item(), WEIGHT_TOLERANCE, f"{case.name}: weights, largest difference")
    report.below(difference.square().mean().sqrt().item(), TYPICAL_WEIGHT_TOLERANCE, f"{case.name}: weights, mean difference")


def prepare(terroir, shape):
    """The random model as Hugging Face folder and as checkpoint, and shards of its tokenizer."""
    source, checkpoint, shards = (terroir.folder / f"{kind}-{shape.name}" for kind in ("model", "checkpoint", "corpus"))
    if not source.exists():
        save_model(make_model(shape, seed=1), terroir.train_tokenizer(shape.vocab, shape.pretokenizer), source)
        terroir.run("import", "hf", source, "--out", checkpoint)
        lines = [line[:limit] for language, limit in (("th", 60), ("ko", 150), ("sw", 300), ("ar", 40))
                 for line in sample_lines(language)[:4]]
        terroir.build_shards(source / "tokenizer.json", lines, shards.name, "--shard-tokens", 400)  # several shards
    return source, checkpoint, shards


def run_case(terroir, report, case):
    source, checkpoint, shards = prepare(terroir, case.shape)
    documents = read_documents(shards)
    length = sum(map(len, documents)) // WINDOWS
    windows = cut_windows(documents, length)
    assert len(windows[0]) == WINDOWS

    run = train_in_terroir(terroir, case, checkpoint, source / "tokenizer.json", shards, length)
    exported = terroir.folder / f"exported-{case.name}"
    terroir.run("export", "hf", "--checkpoint", run, "--out", exported)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    compare(report, case, read_metrics(run), train_in_pytorch(model, windows, case))
    compare_weights(report, case, load_file(exported / "model.safetensors"), model.state_dict(),
                    load_file(source / "model.safetensors"))


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(2)
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        terroir = Terroir(sys.argv[1], folder)
        for case in CASES:
            run_case(terroir, report, case)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

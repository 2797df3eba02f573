#!/usr/bin/env python3
"""`import hf` then `export hf` of models that transformers saved: the same bits in every tensor, the same configuration.

    python3 tests/parity/hf_roundtrip.py PATH/TO/terroir

f32 and bf16, one file and shards, config.json as transformers 5 writes it, as 4 did, and with both kinds of keys. The
exported folder must load in AutoConfig, AutoModelForCausalLM and AutoTokenizer with nothing missing, unexpected or
different. Needs torch, transformers and safetensors.
"""
import itertools
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import torch  # noqa: E402
from program import Report, Terroir  # noqa: E402
from random_models import Shape, make_model, save_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from transformers.utils import logging  # noqa: E402

SHAPES = [
    Shape("llama", hidden=48, heads=6, kv_heads=2, head_dim=10, tied=True, padding_rows=3, scaled=True),
    Shape("llama", hidden=36, heads=4, kv_heads=4, head_dim=6, tied=False, theta=500000.0),
    Shape("qwen2", hidden=60, heads=6, kv_heads=3, head_dim=10, tied=True, theta=1e6),
    Shape("qwen2", hidden=36, heads=6, kv_heads=1, head_dim=6, tied=False, scaled=True),
    Shape("qwen3", hidden=50, heads=4, kv_heads=1, head_dim=24, tied=False, theta=1e6),
    Shape("qwen3", hidden=33, heads=3, kv_heads=3, head_dim=8, tied=True, padding_rows=35, scaled=True),
]
DIALECTS = ["transformers 5", "transformers 4", "both"]


def tensors_in(folder):
    """Name -> tensor over all weight files; every file must be known to the index when there is one."""
    files = sorted(pathlib.Path(folder).glob("*.safetensors"))
    index = pathlib.Path(folder) / "model.safetensors.index.json"
    tensors = {}
    for file in files:
        part = load_file(file)
        if index.exists():
            weight_map = json.loads(index.read_text())["weight_map"]
            assert all(weight_map[name] == file.name for name in part), file
        tensors.update(part)
    return tensors, len(files)


def same_bits(a, b):
    """dtype, shape and bytes; -0 is not 0, a NaN equals itself."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)) for name in a)


def write_dialect(folder, dialect):
    """Rewrites config.json, as transformers 5 saved it, with the keys of the dialect."""
    path = pathlib.Path(folder) / "config.json"
    config = json.loads(path.read_text())
    rope = config["rope_parameters"]
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    if dialect != "transformers 5":
        config["rope_theta"], config["torch_dtype"] = rope["rope_theta"], config["dtype"]
        config["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    if dialect == "transformers 4":
        del config["rope_parameters"], config["dtype"]
    path.write_text(json.dumps(config))


def config_facts(folder):
    """What AutoConfig makes of a folder; where it came from and which of two keys said it do not matter."""
    facts = AutoConfig.from_pretrained(folder).to_dict()
    aside = ("_name_or_path", "transformers_version", "rope_theta", "rope_scaling", "torch_dtype")
    return {key: value for key, value in facts.items() if key not in aside}


def check_loads(report, exported, original, name):
    ours, theirs = config_facts(exported), config_facts(original)
    if "head_dim" not in theirs:  # Qwen2 has none; written for readers that ask every family for it
        ours.pop("head_dim")
    unlike = {key: (ours.get(key), theirs.get(key)) for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    report.check(not unlike, f"{name}: AutoConfig is the same {unlike or ''}")
    model, info = AutoModelForCausalLM.from_pretrained(exported, dtype="auto", output_loading_info=True)
    problems = {key: list(value) for key, value in info.items() if value}
    report.check(not problems, f"{name}: AutoModelForCausalLM loads every tensor {problems or ''}")
    expected = AutoModelForCausalLM.from_pretrained(original, dtype="auto")
    report.check(same_bits(model.state_dict(), expected.state_dict()), f"{name}: and has the same weights")
    text = "Selamat pagi, โลก! مرحبا"
    report.check(AutoTokenizer.from_pretrained(exported)(text) == AutoTokenizer.from_pretrained(original)(text),
                 f"{name}: AutoTokenizer encodes the same")


def round_trip(terroir, report, shape, dtype, shards, dialect):
    name = f"{shape.name}, {str(dtype).removeprefix('torch.')}, {shards}, {dialect}"
    folder = terroir.folder / f"case-{abs(hash(name))}"
    original, checkpoint, exported = folder / "original", folder / "checkpoint", folder / "exported"
    model = make_model(shape).to(dtype)
    save_model(model, terroir.train_tokenizer(shape.vocab), original)
    limit = "40KB" if shards == "shards" else "5GB"
    model.save_pretrained(original, max_shard_size=limit)
    if shards == "shards":
        (original / "model.safetensors").unlink(missing_ok=True)
    write_dialect(original, dialect)

    terroir.run("import", "hf", original, "--out", checkpoint)
    terroir.run("checkpoint", "verify", checkpoint)
    terroir.run("export", "hf", "--checkpoint", checkpoint, "--out", exported, "--max-shard-size", limit)
    (before, files_before), (after, files_after) = tensors_in(original), tensors_in(exported)
    report.check(same_bits(before, after), f"{name}: {len(after)} tensors, {files_before} files in, {files_after} out")
    report.check((files_after > 1) == (shards == "shards"), f"{name}: {files_after} files")
    check_loads(report, exported, original, name)


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    report = Report()
    dialects = itertools.cycle(DIALECTS)
    with tempfile.TemporaryDirectory() as folder:
        terroir = Terroir(sys.argv[1], folder)
        for shape, dtype, shards in itertools.product(SHAPES, (torch.float32, torch.bfloat16), ("one file", "shards")):
            round_trip(terroir, report, shape, dtype, shards, next(dialects))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())

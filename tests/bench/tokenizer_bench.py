#!/usr/bin/env python3
"""Speed of `terroir tokenizer` against Hugging Face's `tokenizers`, both in one run on one text.

    python3 tests/bench/tokenizer_bench.py PATH/TO/terroir TEXT_FILE [--vocab-size 32000] [--pretokenizer llama-3]

Training: wall time with all cores for both, from the file to the saved tokenizer. Encoding: CPU time of one thread; the time of the same
program with an empty text (start, reading tokenizer.json) is taken off. Hugging Face encodes line by line, which is its fast way.
"""
import argparse
import os
import pathlib
import platform
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
from tokenizer_parity import hf_train  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402


def child_cpu_s():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(*command):
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), child_cpu_s()
    subprocess.run([*map(str, command)], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - wall, child_cpu_s() - cpu


def hf_encode_s(tokenizer_file, text):
    """CPU seconds of one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    lines = text.splitlines(keepends=True)
    begin = time.process_time()
    tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return time.process_time() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("terroir")
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--vocab-size", type=int, default=32000)
    parser.add_argument("--pretokenizer", default="llama-3", choices=["gpt-2", "llama-3", "qwen2"])
    arguments = parser.parse_args()
    text = arguments.text.read_text("utf-8")
    megabytes = len(text.encode()) / 1e6
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {megabytes:.1f} MB, vocabulary {arguments.vocab_size}, "
          f"{arguments.pretokenizer}")

    with tempfile.TemporaryDirectory() as folder:
        ours, empty = pathlib.Path(folder) / "ours.json", pathlib.Path(folder) / "empty.txt"
        empty.touch()
        our_train, our_train_cpu = run(arguments.terroir, "tokenizer", "train", "--vocab-size", arguments.vocab_size, "--pretokenizer",
                                       arguments.pretokenizer, "--out", ours, arguments.text)
        begin, cpu = time.perf_counter(), time.process_time()
        hf_train(text, arguments.pretokenizer, arguments.vocab_size, 0).save(str(pathlib.Path(folder) / "theirs.json"))
        hf_train_s, hf_train_cpu = time.perf_counter() - begin, time.process_time() - cpu
        print(f"train   terroir {our_train:6.2f} s ({our_train_cpu:.2f} s CPU)   Hugging Face {hf_train_s:6.2f} s ({hf_train_cpu:.2f} s CPU)   "
              f"{hf_train_s / our_train:.1f}x")

        encode = [arguments.terroir, "tokenizer", "encode", "--tokenizer", ours, "--out", pathlib.Path(folder) / "ids.u32"]
        start_cpu = min(run(*encode, empty)[1] for _ in range(3))
        our_encode = min(run(*encode, arguments.text)[1] for _ in range(3)) - start_cpu
        hf_encode = hf_encode_s(ours, text)
        print(f"encode  terroir {megabytes / our_encode:6.1f} MB/s a thread   Hugging Face {megabytes / hf_encode:6.2f} MB/s a thread   "
              f"{hf_encode / our_encode:.1f}x")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Training speed of `terroir train` against PyTorch's LlamaForCausalLM on this machine's CPU, in one run.

    python3 tests/bench/bench_training.py PATH/TO/terroir [--rounds 2] [--steps 6] [--threads 2]

A 124M model (hidden 768, 12 layers, 12 heads, intermediate 2048, vocabulary 50304 tied), f32, 4 sequences of 256 tokens a
step, AdamW (PyTorch: fused), clipping by global norm. The two take turns: ROUNDS times STEPS timed steps each, after two
that are not counted. A step's wall time counts by its median. CPU time is that of all threads, spinning in wait included: with
--threads 1 it compares the two on a busy machine too. Needs torch and transformers.
"""
import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/parity"))
import torch  # noqa: E402
from program import LANGUAGES, Terroir, read_metrics, sample_lines  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

HIDDEN, LAYERS, HEADS, INTERMEDIATE, VOCABULARY = 768, 12, 12, 2048, 50304
BATCH, SEQUENCE = 4, 256
TOKENS = BATCH * SEQUENCE
WARM_UP = 2
# As trainer/step/throughput.h counts: backward is twice forward, causal attention is half of all pairs.
MATRIX_PARAMETERS = LAYERS * HIDDEN * (4 * HIDDEN + 3 * INTERMEDIATE) + HIDDEN * VOCABULARY
FLOPS_PER_TOKEN = 6 * MATRIX_PARAMETERS + 6 * LAYERS * HIDDEN * SEQUENCE


class PyTorch:
    """One model that lives through all rounds."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(LlamaConfig(
            hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=INTERMEDIATE,
            vocab_size=VOCABULARY, tie_word_embeddings=True, max_position_embeddings=SEQUENCE))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
        self.ids = torch.randint(VOCABULARY, (BATCH, SEQUENCE))

    def step(self):
        self.optimizer.zero_grad()
        self.model(self.ids, labels=self.ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def round(self, steps):
        """Wall seconds of each step, CPU seconds of a step."""
        seconds = []
        for i in range(WARM_UP + steps):
            if i == WARM_UP:
                cpu = time.process_time()
            begin = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - begin)
        return seconds[WARM_UP:], (time.process_time() - cpu) / steps


def cpu_seconds(pid):
    """Of a running process, user and system."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class TerroirTraining:
    def __init__(self, program, folder, threads):
        self.terroir, self.runs = Terroir(program, folder), 0
        tokenizer = self.terroir.train_tokenizer(2000)
        lines = [line for language in LANGUAGES for line in sample_lines(language)]
        shards = self.terroir.build_shards(tokenizer, lines, "samples")
        self.config = {
            "tokenizer": str(tokenizer),
            "model": {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
                      "intermediate_size": INTERMEDIATE, "vocab_size": VOCABULARY, "tie_word_embeddings": True},
            "data": {"sequence_length": SEQUENCE, "stages": [{"sources": {"all": 1}}], "sources": {"all": {"shards": f"{shards}/*.h5"}}},
            "train": {"steps": 1000000, "global_batch_size": BATCH, "micro_batch_size": BATCH, "threads": threads},
            "optimizer": {"lr": 1e-4}, "checkpoint": {"every": 0}, "eval": {"every": 0}}

    def round(self, steps):
        """As above; wall times as metrics.jsonl says. The run is killed after its steps: a checkpoint would be 1.5 GB."""
        self.runs += 1
        name = f"run{self.runs}"
        path = self.terroir.folder / f"{name}.yaml"
        path.write_text(json.dumps({"run": {"name": name}, **self.config}))
        process = subprocess.Popen([self.terroir.program, "--quiet", "train", path], cwd=self.terroir.folder)
        run = self.terroir.folder / "runs" / name
        try:
            wait_for_steps(process, run, WARM_UP)
            cpu = cpu_seconds(process.pid)
            wait_for_steps(process, run, WARM_UP + steps)
            cpu = cpu_seconds(process.pid) - cpu
        finally:
            process.kill()
            process.wait()
        return [line["step_s"] for line in read_metrics(run)[WARM_UP:WARM_UP + steps]], cpu / steps


def wait_for_steps(process, run, steps):
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < steps:
        if process.poll() is not None:
            raise SystemExit(f"terroir train ended with {process.returncode}")
        time.sleep(0.02)


def gemm_gflops():
    """PyTorch's best of several [1024, 768] x [768, 2048] products, the shape of most of the work."""
    a, b = torch.randn(TOKENS, HIDDEN), torch.randn(HIDDEN, INTERMEDIATE)
    best = 0.0
    for _ in range(30):
        begin = time.perf_counter()
        torch.matmul(a, b)
        best = max(best, 2 * TOKENS * HIDDEN * INTERMEDIATE / (time.perf_counter() - begin) / 1e9)
    return best


def machine(program):
    """The program does not know its commit: the checkout's may be newer than what was built."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU")
    isa = torch.backends.cpu.get_cpu_capability()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    built = time.strftime("%Y-%m-%d %H:%M", time.localtime(os.path.getmtime(program)))
    return (f"{model}, {os.cpu_count()} cores, {isa}; PyTorch {torch.__version__}; program built {built}, "
            f"checkout now at {commit or 'no commit'}")


class Result:
    def __init__(self):
        self.wall, self.cpu = [], []

    def add(self, wall, cpu):
        self.wall += wall
        self.cpu.append(cpu)

    @property
    def tokens_per_s(self):
        return TOKENS / statistics.median(self.wall)

    @property
    def cpu_s(self):
        return statistics.median(self.cpu)

    def __str__(self):
        return (f"{self.tokens_per_s:6.1f} tokens/s, {self.tokens_per_s * FLOPS_PER_TOKEN / 1e9:6.1f} GFLOP/s; a step "
                f"{min(self.wall):.2f} to {max(self.wall):.2f} s, {self.cpu_s:.2f} CPU s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("terroir")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that no training is left running
    torch.set_num_threads(arguments.threads)
    print(f"{machine(arguments.terroir)}; {arguments.threads} threads; load {os.getloadavg()[0]:.1f}", flush=True)
    print(f"PyTorch GEMM {gemm_gflops():.1f} GFLOP/s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {"terroir": TerroirTraining(arguments.terroir, folder, arguments.threads), "PyTorch": PyTorch()}
        results = {name: Result() for name in contestants}
        for i in range(arguments.rounds):
            for name, contestant in contestants.items():
                one = contestant.round(arguments.steps)
                results[name].add(*one)
                print(f"round {i + 1}  {name:8} median step {statistics.median(one[0]):.2f} s, {one[1]:.2f} CPU s; "
                      f"load {os.getloadavg()[0]:.1f}", flush=True)
    for name, result in results.items():
        print(f"{name:8} {result}")
    print(f"ratio    {results['terroir'].tokens_per_s / results['PyTorch'].tokens_per_s:.2f} by wall time, "
          f"{results['PyTorch'].cpu_s / results['terroir'].cpu_s:.2f} by CPU time")


if __name__ == "__main__":
    main()

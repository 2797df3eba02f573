#!/usr/bin/env python3
"""Training speed of a Llama-family decoder in PyTorch: what `launch/gpu_check.sh train` sets beside terroir's.

    python3 tests/bench/torch_training.py --hidden 768 --intermediate 2048 --layers 12 --heads 12 --kv-heads 12 \\
        --vocabulary 50304 --sequence 1024 --micro-batch 16 --batch 64 --recompute none --warm-up 4 --steps 10

On a GPU as people run it there: f32 weights, bf16 autocast, flash attention, fused AdamW, torch.compile; on a CPU f32, not
compiled. Gradients are clipped by global norm, embeddings tied, tokens random. Prints the median step. Needs torch only.
"""
import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def rotate(x, cos, sin):
    """x (B, N, T, H), cos and sin (T, H / 2): halves rotated against each other, as transformers does."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.heads, self.kv_heads, self.head_size = o.heads, o.kv_heads, o.hidden // o.heads
        kv_size = self.kv_heads * self.head_size
        self.norm1, self.norm2 = RMSNorm(o.hidden), RMSNorm(o.hidden)
        self.qkv = nn.Linear(o.hidden, o.hidden + 2 * kv_size, bias=False)
        self.out = nn.Linear(o.hidden, o.hidden, bias=False)
        self.gate_up = nn.Linear(o.hidden, 2 * o.intermediate, bias=False)
        self.down = nn.Linear(o.intermediate, o.hidden, bias=False)

    def forward(self, x_BTD, cos, sin):
        batch, length, hidden = x_BTD.shape
        q, k, v = self.qkv(self.norm1(x_BTD)).view(batch, length, -1, self.head_size).transpose(1, 2).split(
            (self.heads, self.kv_heads, self.kv_heads), 1)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        groups = self.heads // self.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(attended.transpose(1, 2).reshape(batch, length, hidden))
        gate, up = self.gate_up(self.norm2(x_BTD)).chunk(2, -1)
        return x_BTD + self.down(F.silu(gate) * up)


class Decoder(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.embedding = nn.Embedding(o.vocabulary, o.hidden)
        self.layers = nn.ModuleList(Layer(o) for _ in range(o.layers))
        self.norm = RMSNorm(o.hidden)
        self.recompute = o.recompute == "full"
        half = o.hidden // o.heads // 2
        angles = torch.arange(o.sequence)[:, None] * 500000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids_BT, targets_BT):
        x_BTD = self.embedding(ids_BT)
        for layer in self.layers:
            if self.recompute:
                x_BTD = checkpoint(layer, x_BTD, self.cos, self.sin, use_reentrant=False)
            else:
                x_BTD = layer(x_BTD, self.cos, self.sin)
        logits = F.linear(self.norm(x_BTD), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets_BT.flatten())


def train_step(model, optimizer, ids, micro_batch):
    portions = ids.split(micro_batch)
    for portion in portions:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            loss = model(portion[:, :-1], portion[:, 1:])
        (loss / len(portions)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()  # waits for the device


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("hidden", "intermediate", "layers", "heads", "kv-heads", "vocabulary", "sequence", "micro-batch", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--recompute", choices=("none", "full"), default="none")
    parser.add_argument("--warm-up", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    o = parser.parse_args()

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    with torch.device(DEVICE):
        model = Decoder(o)
        ids = torch.randint(o.vocabulary, (o.batch, o.sequence + 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    if DEVICE == "cuda":
        model.compile()
    seconds = []
    for _ in range(o.warm_up + o.steps):
        begin = time.perf_counter()
        loss = train_step(model, optimizer, ids, o.micro_batch)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds[o.warm_up:])
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if DEVICE == "cuda" else ""
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.0f} million parameters, loss {loss:.3f} after {len(seconds)} steps")
    print(f"NOTE: {o.batch * o.sequence / median:.0f} tokens/s, {median:.3f} s a step{memory}, torch {torch.__version__} on {DEVICE}")


if __name__ == "__main__":
    main()

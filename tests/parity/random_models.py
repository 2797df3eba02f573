"""Small random models of odd shapes, made and saved by transformers with a tokenizer of ours."""
import dataclasses

import torch
from transformers import (AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config)

CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 64}


@dataclasses.dataclass
class Shape:
    family: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    intermediate: int = 58
    layers: int = 3
    vocab: int = 900          # of the tokenizer
    padding_rows: int = 0     # rows of the embedding that no token uses
    theta: float = 10000.0
    scaled: bool = False      # Llama-3 scaling of the rotary frequencies

    @property
    def pretokenizer(self):
        """transformers 5 gives model_type qwen2 the Qwen2 pre-tokenizer, whatever tokenizer.json says."""
        return "qwen2" if self.family == "qwen2" else "llama-3"

    @property
    def name(self):
        return (f"{self.family}-h{self.hidden}-{self.heads}x{self.head_dim}-kv{self.kv_heads}-v{self.vocab}"
                f"{f'-padded{self.padding_rows}' if self.padding_rows else ''}{'-tied' if self.tied else ''}{'-scaled' if self.scaled else ''}")


def make_model(shape, seed=0):
    rope = {"rope_type": "default", "rope_theta": shape.theta}
    if shape.scaled:
        rope = {**LLAMA3_SCALING, "rope_theta": shape.theta}
    head_dim = {} if shape.family == "qwen2" else {"head_dim": shape.head_dim}
    config = CONFIGS[shape.family](
        hidden_size=shape.hidden, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, **head_dim,
        intermediate_size=shape.intermediate, num_hidden_layers=shape.layers, vocab_size=shape.vocab + shape.padding_rows,
        tie_word_embeddings=shape.tied, max_position_embeddings=1024, rms_norm_eps=1e-5, rope_parameters=rope,
        initializer_range=0.02, bos_token_id=0, eos_token_id=1, pad_token_id=None)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from what a fresh model has, so that nothing is exchanged or left out unseen: biases are not 0,
            # norms not 1, and matrices large enough for uneven attention and logits of a few units.
            spread = 0.2 if parameter.ndim == 1 else 1.0 / parameter.shape[1] ** 0.5
            is_norm = parameter.ndim == 1 and parameter.mean() == 1
            parameter.copy_(torch.randn_like(parameter) * spread + (1.0 if is_norm else 0.0))
    return model.eval()


def save_model(model, tokenizer_file, folder):
    """A Hugging Face folder with the tokenizer as transformers writes it."""
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), bos_token="<|begin_of_text|>",
                            eos_token="<|end_of_text|>").save_pretrained(folder)

// Which ops at which sizes bench_cuda_kernels times. T tokens, H hidden size, I intermediate size, N query
// heads, K key/value heads, D head size, V vocabulary, S tokens of a sequence, B sequences.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/cuda_bench.h"

namespace terroir::bench {

struct ModelSizes {
  std::string name;
  std::int64_t batch, sequence, hidden, intermediate, heads, kv_heads, head_size, vocabulary;
  std::int64_t tokens() const { return batch * sequence; }
  std::int64_t qkv_columns() const { return (heads + 2 * kv_heads) * head_size; }
};

struct AttentionShape {
  std::int64_t batch, sequence, heads, kv_heads, head_size;
  std::int64_t documents = 1;  // of equal length in a sequence
};

struct BenchSizes {
  std::vector<ModelSizes> models;         // a micro-batch of each
  std::vector<AttentionShape> attention;  // bf16
  AttentionShape attention_f32;
  std::int64_t norm_tokens, norm_hidden;  // of plain RMSNorms, besides the models'
  std::int64_t elements;                  // of element-wise ops
  std::int64_t f32_matrix_size;
};
BenchSizes real_sizes();
BenchSizes small_sizes();  // the same ops within seconds on the emulated GPU

// The ceilings are not among them.
std::vector<Case> all_cases(const BenchSizes& sizes);

void add_elementwise_cases(const BenchSizes& sizes, std::vector<Case>& cases);
void add_norm_cases(const BenchSizes& sizes, std::vector<Case>& cases);
void add_layer_cases(const ModelSizes& model, std::vector<Case>& cases);
void add_embedding_cases(const ModelSizes& model, std::vector<Case>& cases);
void add_loss_cases(const ModelSizes& model, std::vector<Case>& cases);
void add_update_cases(const ModelSizes& model, std::vector<Case>& cases);
void add_matmul_cases(const BenchSizes& sizes, std::vector<Case>& cases);
void add_attention_cases(const BenchSizes& sizes, std::vector<Case>& cases);

// T ids below `vocabulary`, as frequent as words are: log-uniform, which is Zipf's law.
std::vector<std::int32_t> word_ids(std::int64_t tokens, std::int64_t vocabulary);
// 0, 1, ..., S - 1 in each sequence of T tokens.
std::vector<std::int32_t> positions(std::int64_t tokens, std::int64_t sequence);

}  // namespace terroir::bench

#include "tests/bench/cuda_cases.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace terroir::bench {

// Models: those that launch/gpu_check.sh trains. Attention: theirs, and those of cuDNN's published figures
// (Llama 3.1, an H200); so are the norms.
BenchSizes real_sizes() {
  return {.models = {{"124M", 16, 1024, 768, 2048, 12, 12, 64, 50304},
                     {"1.5B", 1, 4096, 2048, 5632, 16, 8, 128, 65536},
                     {"3B", 1, 4096, 3072, 8192, 24, 8, 128, 65536}},
          .attention = {{16, 1024, 12, 12, 64},
                        {1, 4096, 32, 8, 64},
                        {1, 4096, 16, 8, 128},
                        {1, 4096, 16, 8, 128, 4},
                        {1, 4096, 24, 8, 128},
                        {1, 2048, 64, 8, 128},
                        {1, 4096, 64, 8, 128},
                        {1, 8192, 64, 8, 128},
                        {1, 16384, 64, 8, 128},
                        {1, 32768, 64, 8, 128}},
          .attention_f32 = {4, 1024, 12, 12, 64},
          .norm_tokens = 16384,
          .norm_hidden = 4096,
          .elements = 64 << 20,
          .f32_matrix_size = 4096};
}

BenchSizes small_sizes() {
  return {.models = {{"tiny", 2, 24, 128, 160, 2, 1, 64, 320}},
          .attention = {{1, 48, 2, 1, 64}, {1, 48, 2, 1, 128, 2}},
          .attention_f32 = {1, 16, 2, 1, 16},
          .norm_tokens = 40,
          .norm_hidden = 64,
          .elements = 4096,
          .f32_matrix_size = 64};
}

std::vector<Case> all_cases(const BenchSizes& sizes) {
  std::vector<Case> cases;
  add_elementwise_cases(sizes, cases);
  add_norm_cases(sizes, cases);
  for (const ModelSizes& model : sizes.models) {
    add_layer_cases(model, cases);
    add_embedding_cases(model, cases);
    add_loss_cases(model, cases);
    add_update_cases(model, cases);
  }
  add_matmul_cases(sizes, cases);
  add_attention_cases(sizes, cases);
  return cases;
}

std::vector<std::int32_t> word_ids(std::int64_t tokens, std::int64_t vocabulary) {
  std::mt19937 generator(1);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  for (std::int32_t& id : ids) {
    const double u = static_cast<double>(generator()) / 4294967296.0;
    id = static_cast<std::int32_t>(std::pow(static_cast<double>(vocabulary), u)) - 1;
  }
  return ids;
}

std::vector<std::int32_t> positions(std::int64_t tokens, std::int64_t sequence) {
  std::vector<std::int32_t> result(static_cast<std::size_t>(tokens));
  for (std::int64_t t = 0; t < tokens; ++t)
    result[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t % sequence);
  return result;
}

}  // namespace terroir::bench

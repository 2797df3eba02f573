#include "kernels/loss_sums/loss_sums.h"

namespace terroir::cpu {

void loss_sums(OpContext&, const LossSumsArgs& args) {
  const std::int64_t sequences = args.source.size(0), length = args.loss.size(0) / sequences;
  const std::int64_t num_sources = args.sums.size(1);
  const float* loss = args.loss.data<float>();
  const std::int32_t* target = args.targets.data<std::int32_t>();
  for (std::int64_t sequence = 0; sequence < sequences; ++sequence) {
    double nats = 0, tokens = 0, bytes = 0;
    for (std::int64_t t = sequence * length; t < (sequence + 1) * length; ++t) {
      if (target[t] < 0) continue;
      nats += loss[t];
      tokens += 1;
      bytes += args.token_bytes.data<std::int32_t>()[target[t]];
    }
    double* sums = args.sums.data<double>() + args.source.data<std::int32_t>()[sequence];
    sums[0] += nats;
    sums[num_sources] += tokens;
    sums[2 * num_sources] += bytes;
  }
}

}  // namespace terroir::cpu

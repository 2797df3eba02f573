// Attention in f64, straight from its definition.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention.h"

namespace terroir::test {

struct AttentionSizes {
  std::int64_t batch = 1, num_queries = 1, num_keys = 1, num_q_heads = 1, num_kv_heads = 1, head_size = 1;
};

// All tensors row-major and contiguous, in the shapes of attention.h.
struct ReferenceAttention {
  AttentionSizes sizes;
  AttentionOptions options;
  std::vector<double> q, k, v;
  std::vector<std::int32_t> positions_q, positions_k, documents_q, documents_k;
  std::vector<double> o, lse;      // results of forward()
  std::vector<double> dq, dk, dv;  // results of backward()

  bool visible(std::int64_t b, std::int64_t i, std::int64_t j) const {
    const std::int64_t query = b * sizes.num_queries + i, key = b * sizes.num_keys + j;
    return documents_q[query] == documents_k[key] && positions_k[key] <= positions_q[query];
  }
  std::size_t q_row(std::int64_t b, std::int64_t i, std::int64_t h) const {
    return static_cast<std::size_t>(((b * sizes.num_queries + i) * sizes.num_q_heads + h) * sizes.head_size);
  }
  std::size_t k_row(std::int64_t b, std::int64_t j, std::int64_t h) const {
    const std::int64_t kv_head = (h + options.q_head_offset) / options.q_heads_per_kv;
    return static_cast<std::size_t>(((b * sizes.num_keys + j) * sizes.num_kv_heads + kv_head) *
                                    sizes.head_size);
  }
  std::size_t lse_at(std::int64_t b, std::int64_t i, std::int64_t h) const {
    return static_cast<std::size_t>((b * sizes.num_q_heads + h) * sizes.num_queries + i);
  }
  double dot(const std::vector<double>& x, std::size_t x_at, const std::vector<double>& y,
             std::size_t y_at) const {
    double sum = 0;
    for (std::int64_t d = 0; d < sizes.head_size; ++d) sum += x[x_at + d] * y[y_at + d];
    return sum;
  }
  double score(std::int64_t b, std::int64_t i, std::int64_t j, std::int64_t h) const {
    return options.scale * dot(q, q_row(b, i, h), k, k_row(b, j, h));
  }

  template <class Body>
  void for_each_query(Body&& body) const {
    for (std::int64_t b = 0; b < sizes.batch; ++b)
      for (std::int64_t i = 0; i < sizes.num_queries; ++i)
        for (std::int64_t h = 0; h < sizes.num_q_heads; ++h) body(b, i, h);
  }

  void forward() {
    o.assign(q.size(), 0);
    lse.assign(static_cast<std::size_t>(sizes.batch * sizes.num_q_heads * sizes.num_queries), 0);
    for_each_query([&](std::int64_t b, std::int64_t i, std::int64_t h) {
      double max = -std::numeric_limits<double>::infinity(), sum = 0;
      for (std::int64_t j = 0; j < sizes.num_keys; ++j)
        if (visible(b, i, j)) max = std::max(max, score(b, i, j, h));
      for (std::int64_t j = 0; j < sizes.num_keys; ++j)
        if (visible(b, i, j)) sum += std::exp(score(b, i, j, h) - max);
      lse[lse_at(b, i, h)] = max + std::log(sum);
      for (std::int64_t j = 0; j < sizes.num_keys; ++j) {
        if (!visible(b, i, j)) continue;
        const double p = std::exp(score(b, i, j, h) - max) / sum;
        for (std::int64_t d = 0; d < sizes.head_size; ++d) o[q_row(b, i, h) + d] += p * v[k_row(b, j, h) + d];
      }
    });
  }

  // REQUIRES: o and lse are set. Gradients of sum(o * dout), with o and lse perhaps of more keys than these.
  void backward(const std::vector<double>& dout) {
    dq.assign(q.size(), 0);
    dk.assign(k.size(), 0);
    dv.assign(v.size(), 0);
    for_each_query([&](std::int64_t b, std::int64_t i, std::int64_t h) {
      const std::size_t q_at = q_row(b, i, h);
      const double delta = dot(o, q_at, dout, q_at);
      for (std::int64_t j = 0; j < sizes.num_keys; ++j) {
        if (!visible(b, i, j)) continue;
        const std::size_t k_at = k_row(b, j, h);
        const double p = std::exp(score(b, i, j, h) - lse[lse_at(b, i, h)]);
        const double ds = p * (dot(dout, q_at, v, k_at) - delta) * options.scale;
        for (std::int64_t d = 0; d < sizes.head_size; ++d) {
          dq[q_at + d] += ds * k[k_at + d];
          dk[k_at + d] += ds * q[q_at + d];
          dv[k_at + d] += p * dout[q_at + d];
        }
      }
    });
  }
};

}  // namespace terroir::test

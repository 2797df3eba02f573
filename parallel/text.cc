#include "parallel/text.h"

#include <cstdint>
#include <numeric>

namespace terroir {

std::string broadcast_text(std::string text, Communicator& group, std::string_view what) {
  auto size = static_cast<std::int64_t>(text.size());
  group.broadcast(View(&size, DType::kI64, {1}), 0, Stream(), what).wait();
  text.resize(static_cast<std::size_t>(size));
  if (size > 0) group.broadcast(View(text.data(), DType::kU8, {size}), 0, Stream(), what).wait();
  return text;
}

std::vector<std::string> gather_texts(const std::string& text, Communicator& group, std::string_view what) {
  const auto num_ranks = static_cast<std::size_t>(group.size());
  const auto length = static_cast<std::int64_t>(text.size());
  std::vector<std::int64_t> lengths(num_ranks), send(num_ranks, 0), receive(num_ranks, 0);
  group
      .all_gather(ConstView(&length, DType::kI64, {1}), View(lengths.data(), DType::kI64, {group.size()}),
                  Stream(), what)
      .wait();
  send[0] = length;
  if (group.rank() == 0) receive = lengths;
  const std::int64_t total = std::accumulate(receive.begin(), receive.end(), std::int64_t{0});
  std::string all(static_cast<std::size_t>(total), '\0');
  group
      .all_to_all(ConstView(text.data(), DType::kU8, {length}), View(all.data(), DType::kU8, {total}), send,
                  receive, Stream(), what)
      .wait();
  std::vector<std::string> texts;
  std::size_t position = 0;
  for (std::size_t rank = 0; group.rank() == 0 && rank < num_ranks; ++rank) {
    texts.push_back(all.substr(position, static_cast<std::size_t>(receive[rank])));
    position += texts.back().size();
  }
  return texts;
}

}  // namespace terroir

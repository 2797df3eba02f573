#include "data/shard/held_out_rule.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace terroir {

HeldOutRule::HeldOutRule(double fraction)
    : threshold_(static_cast<std::uint64_t>(std::ldexp(fraction, 64))),
      smallest_(std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max()) {
  TERROIR_CHECK(fraction >= 0 && fraction <= 0.5, "fraction {}", fraction);
}

void HeldOutRule::see(const Hash128& content) {
  const Key key(content.high, content.low);
  if (first_different_.size() < kMinDocuments) first_different_.insert(key);
  smallest_ = std::min(smallest_, key);
}

bool HeldOutRule::holds_out(const Hash128& content) const {
  if (threshold_ == 0 || first_different_.size() < kMinDocuments) return false;
  return content.high < threshold_ || Key(content.high, content.low) == smallest_;
}

}  // namespace terroir

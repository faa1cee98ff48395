// Counts that stop at 2^53 - 1, up to which both JavaScript and snapshots are exact, and sums of
// them. Twin of lib/engine/js/counts.ts.
#pragma once

#include <cstdint>

namespace relay_limiter {

constexpr uint64_t kMostCount = (uint64_t{1} << 53) - 1;

// `count` and `more`, both at most kMostCount, or kMostCount where that is exceeded.
constexpr uint64_t saturatedSum(uint64_t count, uint64_t more) noexcept {
  return more < kMostCount - count ? count + more : kMostCount;
}

// The exact sum of any number of counts, in two digits of 2^53.
class Sum {
 public:
  // The sum, or kMostCount where it is larger.
  uint64_t value() const noexcept { return high_ > 0 ? kMostCount : low_; }

  void add(uint64_t count) noexcept {
    if (count <= kMostCount - low_) {
      low_ += count;
    } else {
      low_ -= kMostCount - count + 1;
      ++high_;
    }
  }

  // `count` has been added before.
  void subtract(uint64_t count) noexcept {
    if (count <= low_) {
      low_ -= count;
    } else {
      low_ += kMostCount - count + 1;
      --high_;
    }
  }

  void clear() noexcept { low_ = high_ = 0; }

 private:
  uint64_t low_ = 0;
  uint64_t high_ = 0;
};

}  // namespace relay_limiter

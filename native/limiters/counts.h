// Counts of violations, and sums of them. A count stops at 2^53 - 1, the largest integer up to
// which numbers are exact in JavaScript and in snapshots. Counterpart of lib/engine/js/counts.ts.
#pragma once

#include <cstdint>

namespace relay_limiter {

constexpr uint64_t kMostCount = (uint64_t{1} << 53) - 1;

// Adds two numbers of at most kMostCount; the result is at most kMostCount too.
constexpr uint64_t saturatedSum(uint64_t count, uint64_t more) noexcept {
  return more < kMostCount - count ? count + more : kMostCount;
}

// The exact sum of any number of counts, stored as two digits in base 2^53.
class Sum {
 public:
  // The sum, or kMostCount if the sum is larger.
  uint64_t value() const noexcept { return high_ > 0 ? kMostCount : low_; }

  void add(uint64_t count) noexcept {
    if (count <= kMostCount - low_) {
      low_ += count;
    } else {
      low_ -= kMostCount - count + 1;
      ++high_;
    }
  }

  // Subtracts a part of what was added before.
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

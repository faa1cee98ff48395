// TopViolators: the worst offenders, kept in order as violations are counted, so that naming them
// takes no walk through all. Knows no table: where too many of the worst were forgiven, it says
// that it has to be told of everybody again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../table/fingerprint.h"

namespace relay_limiter {

class TopViolators {
 public:
  // How many are named.
  static constexpr size_t kNamed = 10;

  struct Violator {
    Fingerprint fingerprint;
    uint64_t violations;
    // Unlike anybody else's, and lower than that of all who offended later.
    uint64_t order;
  };

  size_t size() const noexcept { return size_ < kNamed ? size_ : kNamed; }
  const Violator& operator[](size_t place) const noexcept { return worst_[place]; }

  // After `violator` was counted once more, or first. `others`: how many others there are.
  void count(const Violator& violator, size_t others) noexcept {
    size_t place = find(violator);
    if (place == size_) {
      // Behind the last that is known there may be others that are worse.
      const bool known = size_ == others || (size_ > 0 && isWorse(violator, worst_[size_ - 1]));
      if (!known || (size_ == kKept && !isWorse(violator, worst_[kKept - 1]))) return;
      if (size_ < kKept) ++size_;
      place = size_ - 1;
    }
    for (; place > 0 && isWorse(violator, worst_[place - 1]); --place) {
      worst_[place] = worst_[place - 1];
    }
    worst_[place] = violator;
  }

  // After `violator` was forgiven.
  void forget(const Violator& violator) noexcept {
    const size_t place = find(violator);
    if (place == size_) return;
    --size_;
    for (size_t i = place; i < size_; ++i) worst_[i] = worst_[i + 1];
  }

  // Whether they are the worst of `all` that there are. If not: clear(), and count() everybody.
  bool holds(size_t all) const noexcept { return size_ >= (all < kNamed ? all : kNamed); }

  void clear() noexcept { size_ = 0; }

 private:
  // So many can be forgiven before everybody must be counted again.
  static constexpr size_t kKept = 64;

  static bool isWorse(const Violator& a, const Violator& b) noexcept {
    return a.violations != b.violations ? a.violations > b.violations : a.order < b.order;
  }

  // Its place; size_ without one. Hardly anybody is among the worst, which one comparison tells.
  size_t find(const Violator& violator) const noexcept {
    if (size_ == 0) return 0;
    const Violator& last = worst_[size_ - 1];
    if (isWorse(last, violator)) return size_;
    for (size_t place = size_; place-- > 0;) {
      if (worst_[place].order == violator.order) return place;
    }
    return size_;
  }

  // Worst first; nobody else is worse than the last of them.
  Violator worst_[kKept];
  size_t size_ = 0;
};

}  // namespace relay_limiter

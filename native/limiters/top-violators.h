// TopViolators keeps the offenders with the most violations sorted while violations are counted, so
// that listing them needs no scan of all offenders. If too many of them were removed, the list is
// incomplete and the caller must count all offenders again. Counterpart of
// lib/engine/js/top-violators.ts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../table/fingerprint.h"

namespace relay_limiter {

class TopViolators {
 public:
  // The number of offenders that statistics list.
  static constexpr size_t kListed = 10;

  struct Violator {
    Fingerprint fingerprint;
    uint64_t violations;
    // Unique; a later first violation has a higher one.
    uint64_t order;
  };

  size_t size() const noexcept { return size_ < kListed ? size_ : kListed; }
  const Violator& operator[](size_t index) const noexcept { return worst_[index]; }

  // Call this after a violator's violations have grown from `before`. `others` is the number of
  // other violators.
  void count(const Violator& violator, uint64_t before, size_t others) noexcept {
    // Most violators are not among the worst. A kept one has become worse than the last one.
    if (size_ == kKept && !isWorse(violator, worst_[kKept - 1])) return;
    size_t index = find({violator.fingerprint, before, violator.order});
    if (index == size_) {
      // If the list does not hold all violators, one outside it may be worse than this one. Then
      // the place of this one is known only if it is worse than the last entry.
      const bool isPlaceKnown =
          size_ == others || (size_ > 0 && isWorse(violator, worst_[size_ - 1]));
      if (!isPlaceKnown) return;
      if (size_ < kKept) ++size_;
      index = size_ - 1;
    }
    for (; index > 0 && isWorse(violator, worst_[index - 1]); --index) {
      worst_[index] = worst_[index - 1];
    }
    worst_[index] = violator;
  }

  // Call this after a violator was forgiven, with its last violations.
  void remove(const Violator& violator) noexcept {
    const size_t index = find(violator);
    if (index == size_) return;
    --size_;
    for (size_t i = index; i < size_; ++i) worst_[i] = worst_[i + 1];
  }

  // Whether this lists the worst of so many violators. If not, call clear(), then count() for each
  // violator.
  bool isComplete(size_t violators) const noexcept {
    return size_ >= (violators < kListed ? violators : kListed);
  }

  void clear() noexcept { size_ = 0; }

 private:
  // The number of violators that are kept sorted. At least kKept - kListed of them must be removed
  // before all violators must be counted again.
  static constexpr size_t kKept = 64;

  static bool isWorse(const Violator& a, const Violator& b) noexcept {
    return a.violations != b.violations ? a.violations > b.violations : a.order < b.order;
  }

  // The index of a violator, given as it was counted last; size_ if it is not kept. Every violator
  // that is not behind the last one is kept, so its place is enough.
  size_t find(const Violator& violator) const noexcept {
    if (size_ == 0 || isWorse(worst_[size_ - 1], violator)) return size_;
    size_t first = 0;
    for (size_t count = size_; count > 1; count -= count / 2) {
      if (isWorse(worst_[first + count / 2 - 1], violator)) first += count / 2;
    }
    return first;
  }

  // The worst first. No violator outside is worse than the last one here.
  Violator worst_[kKept];
  size_t size_ = 0;
};

}  // namespace relay_limiter

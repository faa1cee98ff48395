// How maxPeers decides the size of a shared file.
#pragma once

#include <algorithm>
#include <cstdint>

namespace relay_limiter {

// How maxPeers is spread over shards. Fingerprints spread peers at random, so a shard gets more
// peers than others: with 384 on average, one of a million gets more than 480.
struct SharedSize {
  // The number of records in a page, less a few: an interrupted call may leave one more peer than
  // allowed.
  static constexpr double kMostInShard = 476;
  static constexpr double kMeanInShard = 384;
  static constexpr double kMostPeers = 1 << 26;

  explicit SharedSize(double maxPeers) noexcept {
    // In this order a number of a damaged file that is NaN becomes 1.
    const double peers = std::min(kMostPeers, std::max(1.0, maxPeers));
    if (peers <= kMostInShard) {
      shards = 1;
      mostInShard = peers;
    } else {
      const double count = roundUp(peers / kMeanInShard);
      shards = static_cast<uint64_t>(count);
      mostInShard = std::min(kMostInShard, roundUp(1.25 * peers / count));
    }
  }

  uint64_t shards;
  double mostInShard;

 private:
  // Of a positive number. std::ceil would need libm on some processors.
  static double roundUp(double number) noexcept {
    const auto whole = static_cast<double>(static_cast<uint64_t>(number));
    return whole < number ? whole + 1 : whole;
  }
};

}  // namespace relay_limiter

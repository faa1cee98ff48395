// Seat: where a record lies and whose it is, in three words that JavaScript keeps for an opened
// peer. It may outlive the record, the page and even all of the table; Table::at tells.
//
// Whose it is say 64 bits of the fingerprint, which has 128: two peers that agree in them, and of
// which one gets the place the other had, would share a bucket. Nobody can bring that about without
// the secret, and by chance it happens to one pair in 2^64. They are the second word, on which the
// place does not depend, or they would say less.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fingerprint.h"

namespace relay_limiter {

struct PeerSlot {
  // The number of the page and the record's index in it, or kNowhere.
  int32_t place;
  int32_t low;
  int32_t high;

  static constexpr unsigned kIndexBits = 9;
  static constexpr int32_t kNowhere = -1;

  static PeerSlot of(const Fingerprint& fingerprint, int32_t place = kNowhere) noexcept {
    return {place, word(fingerprint.high), word(fingerprint.high >> 32)};
  }

  // Of 2^30, as many as V8's small integers can tell apart everywhere; beyond, peers are found by
  // their keys.
  static int32_t placeAt(size_t page, unsigned index) noexcept {
    constexpr size_t kPages = size_t{1} << (30 - kIndexBits);
    return page < kPages ? static_cast<int32_t>(page << kIndexBits | index) : kNowhere;
  }

  size_t page() const noexcept { return static_cast<uint32_t>(place) >> kIndexBits; }
  unsigned index() const noexcept {
    return static_cast<uint32_t>(place) & ((1u << kIndexBits) - 1);
  }

  bool isOf(const Fingerprint& fingerprint) const noexcept {
    return ((low ^ word(fingerprint.high)) | (high ^ word(fingerprint.high >> 32))) == 0;
  }

 private:
  static int32_t word(uint64_t bits) noexcept {
    return static_cast<int32_t>(static_cast<uint32_t>(bits));
  }
};

}  // namespace relay_limiter

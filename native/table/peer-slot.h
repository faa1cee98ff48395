// PeerSlot remembers where the record of an opened peer was found: three words that the peer's
// JavaScript object keeps. A slot may outlive the record, its page and the table's content:
// Table::at checks that the record at this place is the peer's.
//
// That check compares 64 of the fingerprint's 128 bits. Two peers with equal 64 bits would share a
// bucket if one takes the place of the other. Without the secret nobody can cause this, and for a
// given pair the probability is 2^-64. The bits are those of the second word, because the place
// depends on the first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fingerprint.h"

namespace relay_limiter {

struct PeerSlot {
  // The page's number and the record's index in the page, or kNowhere.
  int32_t place;
  int32_t low;
  int32_t high;

  static constexpr unsigned kIndexBits = 9;
  static constexpr int32_t kNowhere = -1;

  static PeerSlot of(const Fingerprint& fingerprint, int32_t place = kNowhere) noexcept {
    return {place, word(fingerprint.high), word(fingerprint.high >> 32)};
  }

  // The place is below 2^30, the range of V8's small integers on every platform. Records of later
  // pages are found by their keys.
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

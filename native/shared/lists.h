// Lists of offenders and bans that are copied out of a shared file, because JavaScript must not be
// called, nor memory be allocated, while a shard is locked.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "../limiters/bans.h"
#include "../limiters/counters.h"
#include "../limiters/offender-table.h"

namespace relay_limiter {

// A copy of a key of up to 128 code units.
class KeyCopy {
 public:
  static constexpr uint32_t kMostUnits = 128;

  // The key may be empty.
  void set(const StoredKey& key) noexcept {
    hasText_ = bool{key};
    if (!hasText_) return;
    length_ = std::min(key.length, kMostUnits);
    isTwoByte_ = key.isTwoByte;
    std::memcpy(units_, key.text, length_ * (isTwoByte_ ? sizeof(char16_t) : 1));
  }

  // Valid as long as the copy.
  StoredKey key() const noexcept {
    return hasText_ ? StoredKey{units_, length_, isTwoByte_} : StoredKey{};
  }

  // The key with its text in UTF-16, which is written to `text`.
  Key key(const Fingerprint& fingerprint, char16_t (&text)[kMostUnits]) const noexcept {
    if (!hasText_) return {fingerprint, nullptr, 0};
    key().read([&](const auto* units, size_t length) {
      for (size_t i = 0; i < length; ++i) text[i] = static_cast<char16_t>(codeUnit(units[i]));
    });
    return {fingerprint, text, length_};
  }

 private:
  bool hasText_ = false;
  uint32_t length_ = 0;
  bool isTwoByte_ = false;
  char16_t units_[kMostUnits];
};

class OffenderCopy {
 public:
  void set(const Offender& offender, const StoredKey& key) noexcept {
    offender_ = offender;
    key_.set(key);
  }

  // Its key is readable, unlike that of a record in the file.
  const Offender& offender() noexcept {
    offender_.storedKey = key_.key();
    return offender_;
  }

 private:
  Offender offender_ = {};
  KeyCopy key_;
};

// The offenders with the most violations.
class WorstOffenders {
 public:
  struct Entry {
    uint64_t violations;
    uint64_t order;
    KeyCopy key;
  };

  size_t size() const noexcept { return size_; }
  const Entry& operator[](size_t index) const noexcept { return entries_[index]; }

  void offer(const Offender& offender, const StoredKey& key) noexcept {
    if (!key || (size_ == kMost && !isWorse(offender, entries_[kMost - 1]))) return;
    if (size_ < kMost) ++size_;
    size_t i = size_ - 1;
    for (; i > 0 && isWorse(offender, entries_[i - 1]); --i) entries_[i] = entries_[i - 1];
    entries_[i].violations = offender.violations;
    entries_[i].order = offender.order;
    entries_[i].key.set(key);
  }

 private:
  static constexpr size_t kMost = TopViolators::kListed;

  static bool isWorse(const Offender& a, const Entry& b) noexcept {
    return a.violations != b.violations ? a.violations > b.violations : a.order < b.order;
  }

  Entry entries_[kMost];
  size_t size_ = 0;
};

// The statistics of all shards.
struct SharedStatistics {
  size_t tracked = 0;
  size_t peers = 0;
  size_t unnamed = 0;
  Sum violations;
  Counters counters;
  WorstOffenders top;
};

// Bans with their keys. It grows only in reserve().
class BanList {
 public:
  struct Entry {
    double secondsLeft;
    double began;
    uint64_t order;
    Fingerprint fingerprint;
    KeyCopy key;
  };

  BanList() noexcept = default;
  ~BanList() noexcept { std::free(entries_); }
  BanList(const BanList&) = delete;
  BanList& operator=(const BanList&) = delete;

  size_t size() const noexcept { return size_; }
  const Entry& operator[](size_t index) const noexcept { return entries_[index]; }

  // The key of a ban, with its text if that is stored and belongs to the fingerprint: it comes from
  // a file that may be damaged.
  Key keyOf(size_t index, const Secret& secret,
            char16_t (&text)[KeyCopy::kMostUnits]) const noexcept {
    const Entry& entry = entries_[index];
    const Key key = entry.key.key(entry.fingerprint, text);
    const bool isOwn =
        key.text != nullptr && fingerprintOf(key.text, key.length, secret) == entry.fingerprint;
    return isOwn ? key : Key{entry.fingerprint, nullptr, 0};
  }

  // Makes room for `more` entries. False if there is no memory.
  bool reserve(size_t more) noexcept {
    if (capacity_ - size_ >= more) return true;
    const size_t capacity = std::max(capacity_ * 2, size_ + more);
    void* entries = std::realloc(static_cast<void*>(entries_), capacity * sizeof(Entry));
    if (entries == nullptr) return false;
    entries_ = static_cast<Entry*>(entries);
    capacity_ = capacity;
    return true;
  }

  void push(const Ban& ban, const StoredKey& key, double secondsLeft) noexcept {
    if (size_ == capacity_) return;
    Entry& entry = entries_[size_++];
    entry.secondsLeft = secondsLeft;
    entry.began = ban.began;
    entry.order = ban.order;
    entry.fingerprint = ban.fingerprint;
    entry.key.set(key);
  }

  // In the order in which the bans began.
  void sortByBeginning() noexcept {
    std::sort(entries_, entries_ + size_,
              [](const Entry& a, const Entry& b) { return beganEarlier(a, b); });
  }

  // Keeps the `most` bans that end last, the longest first.
  void keepLongest(size_t most) noexcept {
    keepFirst(most, [](const Entry& a, const Entry& b) { return beganEarlier(b, a); });
  }

  // Keeps the first `most` bans of an order, in that order.
  template <class Precedes>
  void keepFirst(size_t most, Precedes&& precedes) noexcept {
    const size_t kept = std::min(most, size_);
    std::partial_sort(entries_, entries_ + kept, entries_ + size_, precedes);
    size_ = kept;
  }

 private:
  static bool beganEarlier(const Entry& a, const Entry& b) noexcept {
    return a.began != b.began ? a.began < b.began : a.order < b.order;
  }

  Entry* entries_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace relay_limiter

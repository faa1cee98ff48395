// PendingRecords stores the records that a snapshot restored by digest, without a key. A record is
// pending until its peer is checked again and the digest of the peer's key finds it. Counterpart of
// lib/engine/js/pending.ts.
//
// A digest is a fingerprint under the secret of the limiter that made the snapshot. If this limiter
// had no peers, it has adopted that secret, and the key's own fingerprint is the digest. If not,
// the key is hashed once more for each snapshot's secret, which needs the key's text.
#pragma once

#include <memory>
#include <new>

#include "../memory/compiler.h"
#include "offenders.h"
#include "records.h"
#include "verdict.h"

namespace relay_limiter {

// DigestMixer maps digests to fingerprints and back, under a random key of this limiter. A snapshot
// lists digests in the order of a table, or in an order that its author chose. The mixing keeps
// that order from deciding where this table places the records.
class DigestMixer {
 public:
  DigestMixer() noexcept = default;
  explicit DigestMixer(const Secret& key) noexcept
      : mask_(key.k0), factor_(key.k1 | 1), inverse_(inverseOf(factor_)) {}

  Fingerprint mix(const Fingerprint& digest) const noexcept {
    uint64_t word = (digest.low ^ maskOf(digest.high)) * factor_;
    word = (word ^ word >> 32) * factor_;
    const Fingerprint result{word, digest.high};
    // All zeros mark an empty slot of a table.
    return (result.low | result.high) == 0 ? digest : result;
  }

  // The inverse of mix(), except for the one digest that would be mixed to all zeros.
  Fingerprint unmix(const Fingerprint& mixed) const noexcept {
    uint64_t word = mixed.low * inverse_;
    word = (word ^ word >> 32) * inverse_;
    return {word ^ maskOf(mixed.high), mixed.high};
  }

 private:
  // The high word stays as it is and is mixed into the low one, so that digests with one equal word
  // get different places.
  uint64_t maskOf(uint64_t high) const noexcept {
    const uint64_t word = (high ^ mask_) * factor_;
    return word ^ word >> 32;
  }

  // The inverse modulo 2^64 by Newton's method. An odd number is its own inverse in the lowest 3
  // bits, and each step doubles the number of correct bits.
  static uint64_t inverseOf(uint64_t odd) noexcept {
    uint64_t inverse = odd;
    for (int bits = 3; bits < 64; bits *= 2) inverse *= 2 - odd * inverse;
    return inverse;
  }

  uint64_t mask_ = 0;
  uint64_t factor_ = 1;
  uint64_t inverse_ = 1;
};

template <class Record>
class PendingRecords {
 public:
  // The maximum number of snapshots' secrets at a time. Records under another secret are refused.
  static constexpr size_t kMostSecrets = 16;

  // Sets a random key. Call this before the first put().
  void setKey(const Secret& key) noexcept { mixer_ = DigestMixer(key); }

  size_t size() const noexcept { return size_; }
  bool isEmpty() const noexcept { return size_ == 0; }

  // Whether find() and take() need a key's text.
  bool needsText() const noexcept { return size_ > ownSize(); }

  // Fetches the memory that put() will read.
  RELAY_LIMITER_INLINE void prepare(const Secret& secret,
                                    const Fingerprint& digest) const noexcept {
    for (size_t i = 0; size_ > 0 && i < kMostSecrets; ++i) {
      const SecretRecords& group = groups_[i];
      if (group.records.size() == 0 || !(group.secret == secret)) continue;
      return group.records.prepare(mixer_.mix(digest));
    }
  }

  // Stores a record whose fingerprint is a digest under `secret`. `isOwn` says whether that is the
  // limiter's own secret. If there is a record under the digest already, it is replaced only if
  // isStricter(record, existing). kNoRoom if there are `most` records, or records under
  // kMostSecrets other secrets.
  template <class IsStricter>
  Verdict put(const Secret& secret, bool isOwn, const Record& record, double most,
              IsStricter&& isStricter) noexcept {
    if (groups_ == nullptr) groups_.reset(new (std::nothrow) SecretRecords[kMostSecrets]());
    if (groups_ == nullptr) return Verdict::kNoMemory;
    SecretRecords* group = groupOf(secret, isOwn);
    if (group == nullptr) return Verdict::kNoRoom;
    const Fingerprint mixed = mixer_.mix(record.fingerprint);
    Record* existing = group->records.find(mixed);
    if (existing != nullptr && !isStricter(record, *existing)) return Verdict::kAllowed;
    if (existing == nullptr) {
      if (static_cast<double>(size_) >= most) return Verdict::kNoRoom;
      existing = group->records.insert(mixed);
      if (existing == nullptr) return Verdict::kNoMemory;
      ++size_;
    }
    *existing = record;
    existing->fingerprint = mixed;
    return Verdict::kAllowed;
  }

  // The peer's record, or nullptr. The key must have its text if needsText().
  Record* find(const Key& key) noexcept {
    SecretRecords* group;
    return find(key, group);
  }

  // Moves the peer's record to `record`, under the key's own fingerprint. False if the peer has no
  // record here.
  bool take(const Key& key, Record& record) noexcept {
    SecretRecords* group;
    Record* found = find(key, group);
    if (found == nullptr) return false;
    record = *found;
    record.fingerprint = key.fingerprint;
    group->records.erase(found);
    --size_;
    return true;
  }

  void remove(const Key& key) noexcept {
    Record removed;
    take(key, removed);
  }

  // Visits some records under the secret number `index` of kMostSecrets, as Table::sweep does, and
  // erases those for which visit(secret, record) returns true. The record's fingerprint is the
  // digest.
  template <class Visit>
  bool sweep(size_t index, uint64_t& cursor, Visit&& visit) noexcept {
    if (groups_ == nullptr) return false;
    SecretRecords& group = groups_[index];
    const size_t before = group.records.size();
    const bool hasMore = group.records.sweep(cursor, [&](const Record& record) {
      Record original = record;
      original.fingerprint = mixer_.unmix(record.fingerprint);
      return visit(group.secret, original);
    });
    size_ -= before - group.records.size();
    return hasMore;
  }

  void clear() noexcept {
    groups_.reset();
    size_ = 0;
  }

  size_t memoryBytes() const noexcept {
    size_t bytes = 0;
    for (size_t i = 0; groups_ != nullptr && i < kMostSecrets; ++i) {
      bytes += sizeof(SecretRecords) + groups_[i].records.memoryBytes();
    }
    return bytes;
  }

 private:
  struct SecretRecords {
    Secret secret;
    bool isOwn;
    Table<Record> records;
  };

  // The number of records under the limiter's own secret.
  size_t ownSize() const noexcept {
    size_t size = 0;
    for (size_t i = 0; groups_ != nullptr && i < kMostSecrets; ++i) {
      if (groups_[i].isOwn) size += groups_[i].records.size();
    }
    return size;
  }

  // The group of a secret, or an empty group that it assigns to the secret; nullptr if there is
  // neither.
  SecretRecords* groupOf(const Secret& secret, bool isOwn) noexcept {
    SecretRecords* free = nullptr;
    for (size_t i = 0; i < kMostSecrets; ++i) {
      SecretRecords& group = groups_[i];
      if (group.records.size() == 0) {
        if (free == nullptr) free = &group;
      } else if (group.secret == secret) {
        return &group;
      }
    }
    if (free != nullptr) {
      free->secret = secret;
      free->isOwn = isOwn;
    }
    return free;
  }

  Record* find(const Key& key, SecretRecords*& group) noexcept {
    for (size_t i = 0; size_ > 0 && i < kMostSecrets; ++i) {
      group = &groups_[i];
      if (group->records.size() == 0) continue;
      const Fingerprint digest =
          group->isOwn ? key.fingerprint : fingerprintOf(key.text, key.length, group->secret);
      Record* record = group->records.find(mixer_.mix(digest));
      if (record != nullptr) return record;
    }
    return nullptr;
  }

  DigestMixer mixer_;
  // nullptr until the first put().
  std::unique_ptr<SecretRecords[]> groups_;
  size_t size_ = 0;
};

// Returns a visitor for Table::sweep that collects records for a snapshot and erases none. If the
// peer is an offender with a stored key, the visitor calls useOffender(offender, began) if the
// offender is newer than `order`; the snapshot contains the others already. For any other peer it
// calls useDigest(nullptr, saved) if isSaved(record).
template <class Offenders, class IsSaved, class UseOffender, class UseDigest>
auto snapshotVisitor(Offenders& offenders, double now, double banDuration, uint64_t order,
                     IsSaved& isSaved, UseOffender& useOffender, UseDigest& useDigest) noexcept {
  return [&, now, banDuration, order](const auto& record) {
    double began;
    const Offender* offender =
        offenders.findForSnapshot(record.fingerprint, now, banDuration, began);
    if (offender == nullptr) {
      if (isSaved(record)) useDigest(nullptr, SavedDigest::of(record, now));
    } else if (offenders.isNewerThan(*offender, order)) {
      useOffender(*offender, began);
    }
    return false;
  };
}

// Returns a visitor for PendingRecords::sweep that collects records for a snapshot and erases none.
// It calls useDigest(&secret, saved) for each record for which isSaved(record).
template <class IsSaved, class UseDigest>
auto pendingSnapshotVisitor(double now, IsSaved& isSaved, UseDigest& useDigest) noexcept {
  return [&, now](const Secret& secret, const auto& record) {
    if (isSaved(record)) useDigest(&secret, SavedDigest::of(record, now));
    return false;
  };
}

}  // namespace relay_limiter

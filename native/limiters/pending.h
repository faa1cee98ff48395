// PendingRecords: records that a snapshot restored by digest, without the key. Each waits here
// until its peer is checked again and the key's fingerprint leads to it. Knows no limiter.
//
// A digest is a fingerprint under the secret of the limiter that made the snapshot. A limiter that
// knew nobody has adopted that secret, and then a key's own fingerprint finds the record. Otherwise
// the key is hashed once more, under the secret of each snapshot: the limiter needs its text.
// Twin of lib/engine/js/pending.ts.
#pragma once

#include <memory>
#include <new>

#include "../memory/compiler.h"
#include "offenders.h"
#include "records.h"
#include "verdict.h"

namespace relay_limiter {

// Mixes digests under a key of this limiter's own, and back. A snapshot has them
// in the order of a table, or in whatever order somebody gave them: neither may decide where the
// records of this table lie.
class DigestMixer {
 public:
  DigestMixer() noexcept = default;
  explicit DigestMixer(const Secret& key) noexcept
      : mask_(key.k0), factor_(key.k1 | 1), inverse_(inverseOf(factor_)) {}

  Fingerprint mixed(const Fingerprint& digest) const noexcept {
    uint64_t word = (digest.low ^ maskOf(digest.high)) * factor_;
    word = (word ^ word >> 32) * factor_;
    const Fingerprint result{word, digest.high};
    // All zeros mark an empty slot.
    return (result.low | result.high) == 0 ? digest : result;
  }

  Fingerprint unmixed(const Fingerprint& mixed) const noexcept {
    uint64_t word = mixed.low * inverse_;
    word = (word ^ word >> 32) * inverse_;
    return {word ^ maskOf(mixed.high), mixed.high};
  }

 private:
  // The second word is kept as it is, and mixed into the first: digests that agree in one of them
  // lie apart.
  uint64_t maskOf(uint64_t high) const noexcept {
    const uint64_t word = (high ^ mask_) * factor_;
    return word ^ word >> 32;
  }

  // By Newton's method: each step doubles the number of right bits, of which an odd number is its
  // own inverse in three.
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
  // Secrets of snapshots that are kept at once; records under one more are not.
  static constexpr size_t kMostSecrets = 16;

  // A random key, before the first record.
  void setKey(const Secret& key) noexcept { mixer_ = DigestMixer(key); }

  size_t size() const noexcept { return size_; }
  bool isEmpty() const noexcept { return size_ == 0; }

  // Whether a key must bring its text to find a record.
  bool needsText() const noexcept { return size_ > ownSize(); }

  // Asks for the memory that put() will read.
  RELAY_LIMITER_INLINE void prepare(const Secret& secret,
                                    const Fingerprint& digest) const noexcept {
    for (size_t i = 0; size_ > 0 && i < kMostSecrets; ++i) {
      const Group& group = groups_[i];
      if (group.records.size() == 0 || !(group.secret == secret)) continue;
      return group.records.prepare(mixer_.mixed(digest));
    }
  }

  // `isOwn`: the secret is the limiter's. Of two records under one digest the one for which
  // isStricter(a, b) stays. `kNoRoom` if there are `most` records, or no place for one more secret.
  template <class IsStricter>
  Verdict put(const Secret& secret, bool isOwn, const Record& record, double most,
              IsStricter&& isStricter) noexcept {
    if (groups_ == nullptr) groups_.reset(new (std::nothrow) Group[kMostSecrets]());
    if (groups_ == nullptr) return Verdict::kNoMemory;
    Group* group = groupOf(secret, isOwn);
    if (group == nullptr) return Verdict::kNoRoom;
    const Fingerprint place = mixer_.mixed(record.fingerprint);
    Record* known = group->records.find(place);
    if (known != nullptr && !isStricter(record, *known)) return Verdict::kAllowed;
    if (known == nullptr) {
      if (static_cast<double>(size_) >= most) return Verdict::kNoRoom;
      known = group->records.insert(place);
      if (known == nullptr) return Verdict::kNoMemory;
      ++size_;
    }
    *known = record;
    known->fingerprint = place;
    return Verdict::kAllowed;
  }

  // The peer's record, or nullptr. The key has its text if needsText().
  Record* find(const Key& key) noexcept {
    Group* group;
    return find(key, group);
  }

  // Moves the peer's record, if there is one, to `record`, under the key's own fingerprint.
  bool take(const Key& key, Record& record) noexcept {
    Group* group;
    Record* found = find(key, group);
    if (found == nullptr) return false;
    record = *found;
    record.fingerprint = key.fingerprint;
    group->records.erase(found);
    --size_;
    return true;
  }

  void forget(const Key& key) noexcept {
    Record forgotten;
    take(key, forgotten);
  }

  // Visits some records under one of the kMostSecrets secrets, as Table::sweep does; where
  // visit(secret, record) returns true the record is erased.
  template <class Visit>
  bool sweep(size_t index, uint64_t& cursor, Visit&& visit) noexcept {
    if (groups_ == nullptr) return false;
    Group& group = groups_[index];
    const size_t before = group.records.size();
    const bool hasMore = group.records.sweep(cursor, [&](const Record& record) {
      Record told = record;
      told.fingerprint = mixer_.unmixed(record.fingerprint);
      return visit(group.secret, told);
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
      bytes += sizeof(Group) + groups_[i].records.memoryBytes();
    }
    return bytes;
  }

 private:
  struct Group {
    Secret secret;
    bool isOwn;
    Table<Record> records;
  };

  size_t ownSize() const noexcept {
    size_t size = 0;
    for (size_t i = 0; groups_ != nullptr && i < kMostSecrets; ++i) {
      if (groups_[i].isOwn) size += groups_[i].records.size();
    }
    return size;
  }

  // That of a secret, or an empty one that becomes it; nullptr if there is none.
  Group* groupOf(const Secret& secret, bool isOwn) noexcept {
    Group* free = nullptr;
    for (size_t i = 0; i < kMostSecrets; ++i) {
      Group& group = groups_[i];
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

  Record* find(const Key& key, Group*& group) noexcept {
    for (size_t i = 0; size_ > 0 && i < kMostSecrets; ++i) {
      group = &groups_[i];
      if (group->records.size() == 0) continue;
      const Fingerprint digest =
          group->isOwn ? key.fingerprint : fingerprintOf(key.text, key.length, group->secret);
      Record* record = group->records.find(mixer_.mixed(digest));
      if (record != nullptr) return record;
    }
    return nullptr;
  }

  DigestMixer mixer_;
  std::unique_ptr<Group[]> groups_;
  size_t size_ = 0;
};

// Visits some records of `table`, as Table::sweep does, with what a snapshot says of their peers:
// useOffender(offender, began) for one that is a named offender since later than `order`, nothing
// for earlier ones, and useDigest(nullptr, saved) for all others.
template <class Record, class IsSaved, class UseOffender, class UseDigest>
bool sweepUntold(Table<Record>& table, Offenders& offenders, uint64_t& cursor, double now,
                 double banDuration, uint64_t order, IsSaved&& isSaved, UseOffender&& useOffender,
                 UseDigest&& useDigest) noexcept {
  return table.sweep(cursor, [&](const Record& record) {
    double began;
    const Offender* offender =
        offenders.findForSnapshot(record.fingerprint, now, banDuration, began);
    if (offender == nullptr) {
      if (isSaved(record)) useDigest(nullptr, SavedDigest::of(record, now));
    } else if (offenders.isNewerThan(*offender, order)) {
      useOffender(*offender, began);
    }
    return false;
  });
}

// The same of records that are awaited.
template <class Record, class IsSaved, class Visit>
bool sweepPending(PendingRecords<Record>& pending, size_t index, uint64_t& cursor, double now,
                  IsSaved&& isSaved, Visit&& visit) noexcept {
  return pending.sweep(index, cursor, [&](const Secret& secret, const Record& record) {
    if (isSaved(record)) visit(&secret, SavedDigest::of(record, now));
    return false;
  });
}

}  // namespace relay_limiter

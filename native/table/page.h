// Page is a small open-addressing hash table of records, the unit in which the table grows and
// moves records.
//
//  group   | tags (16 B) | overflow | record 0 | record 1 | ... | record 14 |
//  page    | group 0 | group 1 | ... | group 31 |
//
// A record has 32, 64 or 128 bytes. A group of 32-byte records has 512 bytes, two records in each
// cache line and none across two; a page has 16 KiB. The fingerprint of a record names its home
// group and its home slot in this group. The record is placed in its home slot if that is free,
// else in the other slot of the same cache line, else anywhere in the home group, else in the next
// group with a free slot. A look-up fetches the home group's tags and the home cache line at once.
// Two of three records are in that line. It compares only the records whose tag matches, so there
// is no branch that depends on where the record is, which the processor could not predict. It goes
// on to the next group only if `overflow` says that a record of this group was placed there.
// Because of this count, deletion needs no tombstones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "../memory/compiler.h"
#include "fingerprint.h"
#include "tags.h"

namespace relay_limiter {

template <class Record>
struct alignas(64) Group {
  static constexpr unsigned kSlots = 15;

  // Tag i is 0 if slot i is empty, else one byte of its fingerprint. The last of the 16 is padding
  // and always 0.
  Tags tags;
  // The number of records that are placed in a later group because this one was full.
  uint16_t overflow;
  // The head has the size of a record.
  unsigned char padding[sizeof(Record) - sizeof(Tags) - sizeof(uint16_t)];
  Record records[kSlots];

  uint32_t matches(uint8_t tag) const noexcept { return tags.matches(tag) & kAll; }
  uint32_t full() const noexcept { return ~tags.matches(0) & kAll; }

 private:
  static constexpr uint32_t kAll = (1u << kSlots) - 1;
};

template <class Record>
class Page {
 public:
  static constexpr unsigned kGroups = 32;
  static constexpr unsigned kCapacity = kGroups * Group<Record>::kSlots;
  static constexpr unsigned kIndices = kGroups * (Group<Record>::kSlots + 1);

  Record* find(const Fingerprint& fingerprint) noexcept {
    unsigned g = homeGroup(fingerprint);
    // Fetches the tags and the home slot at once.
    prefetchRecord(&groups_[g].records[homeSlot(fingerprint)]);
    const uint8_t tag = tagOf(fingerprint);
    for (unsigned n = 0; n < kGroups; ++n, g = next(g)) {
      Group<Record>& group = groups_[g];
      for (uint32_t slots = group.matches(tag); slots != 0; slots &= slots - 1) {
        Record& record = group.records[lowestBit(slots)];
        if (record.fingerprint == fingerprint) return &record;
      }
      if (group.overflow == 0) return nullptr;
    }
    return nullptr;
  }

  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    const Group<Record>& group = groups_[homeGroup(fingerprint)];
    prefetch(&group);
    prefetchRecord(&group.records[homeSlot(fingerprint)]);
  }

  // Takes a slot for a fingerprint that is not in the page, and writes the fingerprint, but no
  // other part of the record. nullptr if the page is full.
  Record* place(const Fingerprint& fingerprint) noexcept {
    return place(fingerprint, [](const Record*) {});
  }

  // The same. Calls announce(record) before the first change.
  template <class Announce>
  Record* place(const Fingerprint& fingerprint, Announce&& announce) noexcept {
    const unsigned home = homeGroup(fingerprint);
    unsigned g = home;
    unsigned passed = 0;
    uint32_t empty;
    while ((empty = groups_[g].matches(0)) == 0) {
      if (++passed == kGroups) return nullptr;
      g = next(g);
    }
    unsigned slot = homeSlot(fingerprint);
    if ((empty >> slot & 1) == 0) slot = neighborSlot(slot);
    if ((empty >> slot & 1) == 0) slot = lowestBit(empty);
    Record& record = groups_[g].records[slot];
    announce(&record);
    for (unsigned h = home; h != g; h = next(h)) ++groups_[h].overflow;
    groups_[g].tags.set(slot, tagOf(fingerprint));
    record.fingerprint = fingerprint;
    return &record;
  }

  // The index of a record of this page: below kIndices.
  unsigned indexOf(const Record* record) const noexcept {
    return static_cast<unsigned>(offsetOf(record) / sizeof(Record));
  }

  // The record at an index. The tags of a group have an index as well; what is read there equals no
  // fingerprint.
  Record* at(unsigned index) noexcept {
    auto* bytes = reinterpret_cast<unsigned char*>(groups_);
    return reinterpret_cast<Record*>(bytes + index * sizeof(Record));
  }

  RELAY_LIMITER_INLINE void prepareAt(unsigned index) const noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(groups_);
    prefetchRecord(reinterpret_cast<const Record*>(bytes + index * sizeof(Record)));
  }

  // `record` is in this page.
  void erase(Record* record) noexcept {
    const auto g = static_cast<unsigned>(offsetOf(record) / sizeof(Group<Record>));
    eraseAt(g, static_cast<unsigned>(record - groups_[g].records));
  }

  // Makes the page consistent again after an operation on it was interrupted: `unfinished` is the
  // index of the record that was placed or erased last, or one that is not below kIndices. That
  // record and those for which isValid(record) is false are removed, all others stay. An
  // interrupted repair can be repeated.
  template <class IsValid>
  void repair(unsigned unfinished, IsValid&& isValid) noexcept {
    const Record* const last = unfinished < kIndices ? at(unfinished) : nullptr;
    for (Group<Record>& group : groups_) group.overflow = 0;
    for (unsigned g = 0; g < kGroups; ++g) {
      const uint32_t full = groups_[g].full();
      for (unsigned slot = 0; slot < Group<Record>::kSlots; ++slot) {
        Record& record = groups_[g].records[slot];
        const bool isKept = (full >> slot & 1) != 0 && &record != last && isValid(record) &&
                            groups_[g].tags.at(slot) == tagOf(record.fingerprint);
        if (isKept) {
          const unsigned home = homeGroup(record.fingerprint);
          for (unsigned h = home; h != g; h = next(h)) ++groups_[h].overflow;
        } else {
          // Most records are free already: they are not written, so that the page stays as clean.
          constexpr Fingerprint kNone{0, 0};
          if (groups_[g].tags.at(slot) != 0) groups_[g].tags.set(slot, 0);
          if (!(record.fingerprint == kNone)) record.fingerprint = kNone;
        }
      }
    }
  }

  // Calls visit(Record&) for the records of the page, those of the fingerprint's home group first,
  // and decreases `most` by one for each. Stops and returns true once `most` is 0 or visit has
  // returned true.
  template <class Visit>
  bool sample(const Fingerprint& fingerprint, unsigned& most, Visit&& visit) noexcept {
    unsigned g = homeGroup(fingerprint);
    prefetchGroup(g);
    prefetchGroup(next(g));
    for (unsigned n = 0; n < kGroups; ++n, g = next(g)) {
      for (uint32_t slots = groups_[g].full(); slots != 0; slots &= slots - 1, --most) {
        if (most == 0 || visit(groups_[g].records[lowestBit(slots)])) return true;
      }
    }
    return false;
  }

  // Calls visit(Record&) for each record and erases those for which it returns true. Returns the
  // number of erased records.
  template <class Visit>
  unsigned sweep(Visit&& visit) noexcept {
    unsigned erased = 0;
    for (unsigned g = 0; g < kGroups; ++g) {
      for (uint32_t slots = groups_[g].full(); slots != 0; slots &= slots - 1) {
        const unsigned slot = lowestBit(slots);
        if (!visit(groups_[g].records[slot])) continue;
        eraseAt(g, slot);
        ++erased;
      }
    }
    return erased;
  }

  unsigned count() noexcept {
    unsigned records = 0;
    sweep([&](Record&) {
      ++records;
      return false;
    });
    return records;
  }

 private:
  // Uses the low bits of the first word: the table has used the high ones to choose the page. The
  // second word is computed later and only compared.
  static unsigned homeGroup(const Fingerprint& fingerprint) noexcept {
    return static_cast<unsigned>(fingerprint.low) % kGroups;
  }
  static unsigned homeSlot(const Fingerprint& fingerprint) noexcept {
    return static_cast<unsigned>((fingerprint.low >> 8 & 0xffff) * Group<Record>::kSlots >> 16);
  }
  // The other slot of the same cache line, or the same slot if there is none. (A record of 64 bytes
  // or more has its lines for itself.)
  static unsigned neighborSlot(unsigned slot) noexcept {
    if (sizeof(Record) >= kLine || slot == 0) return slot;
    return ((slot + 1) ^ 1) - 1;
  }
  static uint8_t tagOf(const Fingerprint& fingerprint) noexcept {
    const auto tag = static_cast<uint8_t>(fingerprint.low >> 24);
    return tag == 0 ? 1 : tag;
  }
  static unsigned next(unsigned group) noexcept { return (group + 1) % kGroups; }

  // Fetches the cache lines of a record at once.
  RELAY_LIMITER_INLINE static void prefetchRecord(const Record* record) noexcept {
    prefetch(record);
    if (sizeof(Record) > kLine) prefetch(reinterpret_cast<const unsigned char*>(record) + kLine);
  }

  // Fetches all cache lines of a group at once.
  void prefetchGroup(unsigned g) const noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&groups_[g]);
    for (size_t at = 0; at < sizeof(Group<Record>); at += kLine) prefetch(bytes + at);
  }

  size_t offsetOf(const Record* record) const noexcept {
    return static_cast<size_t>(reinterpret_cast<const unsigned char*>(record) -
                               reinterpret_cast<const unsigned char*>(groups_));
  }

  void eraseAt(unsigned g, unsigned slot) noexcept {
    Record& record = groups_[g].records[slot];
    for (unsigned h = homeGroup(record.fingerprint); h != g; h = next(h)) --groups_[h].overflow;
    groups_[g].tags.set(slot, 0);
    record.fingerprint = Fingerprint{0, 0};
  }

  // The size of a cache line in bytes.
  static constexpr size_t kLine = 64;

  Group<Record> groups_[kGroups];

  static_assert(std::is_trivially_copyable<Record>::value, "records are moved as bytes");
  static_assert(sizeof(Group<Record>) == (Group<Record>::kSlots + 1) * sizeof(Record),
                "the tags have the size of a record");
  static_assert(sizeof(Record) >= 32 && (sizeof(Record) & (sizeof(Record) - 1)) == 0 &&
                    sizeof(Record) <= 2 * kLine &&
                    alignof(Record) == (sizeof(Record) < kLine ? sizeof(Record) : kLine),
                "a record is an even part of a cache line, or whole lines: each costs a miss");
};

}  // namespace relay_limiter

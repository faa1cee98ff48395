// Page: a small closed hash table of records, the unit in which the table grows and moves. It knows
// neither what a record means nor that there are other pages.
//
//   group   | tags (16 B) | overflow | record 0 | record 1 | ... | record 14 |
//   page    | group 0 | group 1 | ... | group 31 |
//
// A record of 32 bytes makes a group of 512 bytes: two records a cache line and none across two; a
// page is 16 KiB. A record belongs to a home group and, within it, to a home slot, both named by
// its fingerprint. It lies there if that was free, else besides it in the same cache line, else
// anywhere in its home group, else in the next group with room. So a look-up asks at once for the
// home group's tags and for the home line, where two records of three lie, and compares only what
// the tags point at: no branch that depends on where a record lies, which no processor foresees. It
// goes on to the next group only where `overflow` says that a record of this one went there, which
// is what makes deletion exact, without tombstones.
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

  // 0: empty; else a byte of the fingerprint. The sixteenth is padding, and 0.
  Tags tags;
  // How many records passed this group on their way from their home group.
  uint16_t overflow;
  alignas(Record) Record records[kSlots];

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
    // Two lines at once: the tags, and the line where the record most likely lies.
    prefetch(&groups_[g].records[homeSlot(fingerprint)]);
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
    prefetch(&group.records[homeSlot(fingerprint)]);
  }

  // A slot for a record that is not there yet, its fingerprint written and the rest as it was;
  // nullptr if the page is full.
  Record* place(const Fingerprint& fingerprint) noexcept {
    const unsigned home = homeGroup(fingerprint);
    unsigned g = home;
    unsigned passed = 0;
    uint32_t empty;
    while ((empty = groups_[g].matches(0)) == 0) {
      if (++passed == kGroups) return nullptr;
      g = next(g);
    }
    for (unsigned h = home; h != g; h = next(h)) ++groups_[h].overflow;
    unsigned slot = homeSlot(fingerprint);
    if ((empty >> slot & 1) == 0) slot = neighborSlot(slot);
    if ((empty >> slot & 1) == 0) slot = lowestBit(empty);
    groups_[g].tags.set(slot, tagOf(fingerprint));
    Record& record = groups_[g].records[slot];
    record.fingerprint = fingerprint;
    return &record;
  }

  // Where in this page a record of it lies: below kIndices.
  unsigned indexOf(const Record* record) const noexcept {
    return static_cast<unsigned>(offsetOf(record) / sizeof(Record));
  }

  // The record there. The tags have indices as well, which are those of no record: what is read
  // there is nobody's fingerprint.
  Record* at(unsigned index) noexcept {
    auto* bytes = reinterpret_cast<unsigned char*>(groups_);
    return reinterpret_cast<Record*>(bytes + index * sizeof(Record));
  }

  // `record` lies in this page.
  void erase(Record* record) noexcept {
    const auto g = static_cast<unsigned>(offsetOf(record) / sizeof(Group<Record>));
    eraseAt(g, static_cast<unsigned>(record - groups_[g].records));
  }

  // Calls visit(Record&) for each record, the home group of `fingerprint` first, until it has been
  // called `most` times, which are counted down, or has returned true. Whether it ended so.
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

  // Calls visit(Record&) for each record; where it returns true the record is erased. Returns how
  // many were.
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
  // All of them bits of the first word, and low ones: the table has used the high ones to choose
  // the page. The second word is known later, and only compared.
  static unsigned homeGroup(const Fingerprint& fingerprint) noexcept {
    return static_cast<unsigned>(fingerprint.low) % kGroups;
  }
  static unsigned homeSlot(const Fingerprint& fingerprint) noexcept {
    return static_cast<unsigned>((fingerprint.low >> 8 & 0xffff) * Group<Record>::kSlots >> 16);
  }
  // The slot in the same cache line, or itself. (Records of 64 bytes have a line each.)
  static unsigned neighborSlot(unsigned slot) noexcept {
    if (sizeof(Record) == 64 || slot == 0) return slot;
    return ((slot + 1) ^ 1) - 1;
  }
  static uint8_t tagOf(const Fingerprint& fingerprint) noexcept {
    const auto tag = static_cast<uint8_t>(fingerprint.low >> 24);
    return tag == 0 ? 1 : tag;
  }
  static unsigned next(unsigned group) noexcept { return (group + 1) % kGroups; }

  // All of its lines at once.
  void prefetchGroup(unsigned g) const noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&groups_[g]);
    for (size_t at = 0; at < sizeof(Group<Record>); at += 64) prefetch(bytes + at);
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

  Group<Record> groups_[kGroups];

  static_assert(std::is_trivially_copyable<Record>::value, "records are moved as bytes");
  static_assert(sizeof(Group<Record>) == (Group<Record>::kSlots + 1) * sizeof(Record),
                "the tags take the room of a record");
  static_assert(64 % sizeof(Record) == 0 && alignof(Record) == sizeof(Record),
                "a record that lay across two cache lines would cost two misses");
};

}  // namespace relay_limiter

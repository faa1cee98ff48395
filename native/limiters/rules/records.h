// RuleRecords stores the records of a scope: the instant of the last refill, and for each rule the
// used tokens. A record has room for 1, 5 or 13 rules. If an update needs more, a table of larger
// records takes over, and each record moves there when it is next used or swept. So no call moves
// all records. Counterpart of lib/engine/js/rules/records.ts.
#pragma once

#include <algorithm>
#include <cstring>

#include "../../table/table.h"
#include "rates.h"

namespace relay_limiter {

template <unsigned kRules>
struct alignas(kRules == 1 ? 32 : 64) RuleRecord {
  static constexpr unsigned kSlots = kRules;

  Fingerprint fingerprint;
  // The instant of the last refill, then the used tokens of each slot.
  double state[1 + kRules];
};

class RuleRecords {
  using Small = RuleRecord<1>;
  using Medium = RuleRecord<5>;
  using Large = RuleRecord<kMaxRules>;

  static_assert(sizeof(Small) == 32 && sizeof(Medium) == 64 && sizeof(Large) == 128,
                "a record fills half a cache line, one or two");

  template <class Record>
  static double* stateOf(Record* record) noexcept {
    return record == nullptr ? nullptr : record->state;
  }

  template <class Use>
  decltype(auto) withTable(unsigned number, Use&& use) noexcept {
    if (number == 0) return use(small_);
    if (number == 1) return use(medium_);
    return use(large_);
  }
  template <class Use>
  decltype(auto) withTable(unsigned number, Use&& use) const noexcept {
    if (number == 0) return use(small_);
    if (number == 1) return use(medium_);
    return use(large_);
  }

 public:
  // The tables, by the size of their records.
  static constexpr unsigned kTables = 3;

  explicit RuleRecords(unsigned slots) noexcept { widen(slots); }

  size_t size() const noexcept { return small_.size() + medium_.size() + large_.size(); }
  size_t memoryBytes() const noexcept {
    return small_.memoryBytes() + medium_.memoryBytes() + large_.memoryBytes();
  }

  // Gives new records, and those that are used from now on, room for so many rules.
  void widen(unsigned slots) noexcept {
    const unsigned table = slots <= Small::kSlots ? 0 : slots <= Medium::kSlots ? 1 : 2;
    current_ = std::max(current_, table);
  }

  // Sets `state` to that of the peer's record, or to nullptr if the peer has none. An older record
  // moves to the current table. False if there is no memory for that.
  bool fetch(const Fingerprint& fingerprint, double*& state) noexcept {
    state = find(fingerprint);
    return state != nullptr || !hasOlder() || moveUp(fingerprint, state);
  }

  // The state in the current table; nullptr if the peer has none there.
  double* find(const Fingerprint& fingerprint) const noexcept {
    return withTable(current_, [&](auto& table) { return stateOf(table.find(fingerprint)); });
  }

  // Whether the peer has a record in any table; if so, copies its numbers to `state`.
  bool read(const Fingerprint& fingerprint, RuleState& state) const noexcept {
    for (unsigned t = 0; t <= current_; ++t) {
      const bool isRead = withTable(t, [&](auto& table) {
        const auto* record = table.find(fingerprint);
        if (record == nullptr) return false;
        state.reset(0);
        std::memcpy(state.numbers, record->state, sizeof record->state);
        return true;
      });
      if (isRead) return true;
    }
    return false;
  }

  // Fetches the memory that find() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    if (current_ == 0) return small_.prepare(fingerprint);
    if (current_ == 1) return medium_.prepare(fingerprint);
    large_.prepare(fingerprint);
  }

  // Where the peer's record is in the current table; a slot with PeerSlot::kNowhere without one.
  PeerSlot slotOf(const Fingerprint& fingerprint) const noexcept {
    return withTable(current_, [&](auto& table) {
      auto* record = table.find(fingerprint);
      return record == nullptr ? PeerSlot::of(fingerprint) : table.slotOf(record);
    });
  }

  // Fetches the memory that at() will read.
  RELAY_LIMITER_INLINE void prepareAt(int32_t place) const noexcept {
    if (current_ == 0) return small_.prepareAt(place);
    if (current_ == 1) return medium_.prepareAt(place);
    large_.prepareAt(place);
  }

  // The state at a slot, if its peer's record is still there; then sets `fingerprint` to the
  // peer's. Else nullptr. Any slot is safe.
  double* at(const PeerSlot& slot, Fingerprint& fingerprint) const noexcept {
    // An empty record has such words.
    if ((slot.low | slot.high) == 0) return nullptr;
    return withTable(current_, [&](auto& table) -> double* {
      auto* record = table.at(slot);
      if (record == nullptr) return nullptr;
      fingerprint = record->fingerprint;
      return record->state;
    });
  }

  // Adds a record for a peer that has none. nullptr if there is no memory. Other records may move.
  double* insert(const Fingerprint& fingerprint, const RuleState& state) noexcept {
    return withTable(current_, [&](auto& table) -> double* {
      auto* record = table.insert(fingerprint);
      if (record == nullptr) return nullptr;
      std::memcpy(record->state, state.numbers, sizeof record->state);
      return record->state;
    });
  }

  // Removes the peer's record, if it has one. Other records may move.
  void erase(const Fingerprint& fingerprint) noexcept {
    for (unsigned t = 0; t <= current_; ++t) {
      withTable(t, [&](auto& table) {
        auto* record = table.find(fingerprint);
        if (record != nullptr) table.erase(record);
      });
    }
  }

  // Visits some records of a table, as Table::sweep does, and erases those for which
  // visit(fingerprint, state, slots) returns true. Those of an older table move to the current one.
  template <class Visit>
  bool sweep(unsigned number, uint64_t& cursor, Visit&& visit) noexcept {
    return withTable(number, [&](auto& table) {
      return table.sweep(cursor, [&](auto& record) {
        if (visit(record.fingerprint, record.state, record.kSlots)) return true;
        return number < current_ && copyUp(record) != nullptr;
      });
    });
  }

  // The same, but records stay where they are.
  template <class Visit>
  bool visit(unsigned number, uint64_t& cursor, Visit&& visit) noexcept {
    return withTable(number, [&](auto& table) {
      return table.sweep(cursor, [&](auto& record) {
        visit(record.fingerprint, record.state, record.kSlots);
        return false;
      });
    });
  }

  // Calls visit(table) for each table with records.
  template <class Visit>
  void eachTable(Visit&& visit) noexcept {
    if (small_.size() > 0) visit(small_);
    if (medium_.size() > 0) visit(medium_);
    if (large_.size() > 0) visit(large_);
  }

  void clear() noexcept {
    small_.clear();
    medium_.clear();
    large_.clear();
  }

 private:
  bool hasOlder() const noexcept {
    return (current_ > 0 && small_.size() > 0) || (current_ > 1 && medium_.size() > 0);
  }

  // The state of a copy of an older record in the current table; nullptr if there is no memory.
  template <class Record>
  double* copyUp(const Record& record) noexcept {
    RuleState state;
    state.reset(0);
    std::memcpy(state.numbers, record.state, sizeof record.state);
    return insert(record.fingerprint, state);
  }

  RELAY_LIMITER_NOINLINE bool moveUp(const Fingerprint& fingerprint, double*& state) noexcept {
    for (unsigned t = 0; t < current_; ++t) {
      const bool isMoved = withTable(t, [&](auto& table) {
        auto* record = table.find(fingerprint);
        if (record == nullptr) return true;
        state = copyUp(*record);
        if (state != nullptr) table.erase(record);
        return state != nullptr;
      });
      if (!isMoved) return false;
    }
    return true;
  }

  Table<Small> small_;
  Table<Medium> medium_;
  Table<Large> large_;
  // The number of the table that new records come to.
  unsigned current_ = 0;
};

}  // namespace relay_limiter

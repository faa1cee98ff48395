// SharedRuleStorages keeps the state of a RuleLimiter in the shards of a shared file. The keys of
// one check lie in different shards, so each scope has a cursor of its own; single scopes and what
// concerns no scope have theirs, too.
#pragma once

#include "../limiters/rules/storage.h"
#include "storage.h"

namespace relay_limiter {

// The cursors of all scopes, and one for what concerns the whole check.
struct RuleCursors {
  SharedCursor scopes[kMaxScopes];
  SharedCursor common;
};

// RuleRecords with records of one size, which is decided when the file is created.
class SharedRuleRecords {
  using Small = RuleRecord<1>;
  using Medium = RuleRecord<5>;
  using Large = RuleRecord<kMaxRules>;

  template <class Record, class Use>
  decltype(auto) in(Use&& use) const noexcept {
    SharedTable<Record> table(cursor_, place_);
    return use(table);
  }
  template <class Use>
  decltype(auto) withTable(Use&& use) const noexcept {
    if (room_ == Small::kSlots) return in<Small>(use);
    if (room_ == Medium::kSlots) return in<Medium>(use);
    return in<Large>(use);
  }

 public:
  static constexpr unsigned kTables = 1;

  // The room of records for rules that need so many slots: an update may add at least one rule, if
  // the scope has not the most.
  static constexpr uint8_t roomFor(unsigned slots) noexcept {
    const unsigned room = slots < Small::kSlots    ? Small::kSlots
                          : slots < Medium::kSlots ? Medium::kSlots
                                                   : Large::kSlots;
    return static_cast<uint8_t>(room);
  }
  static constexpr size_t pageBytesOf(unsigned room) noexcept {
    if (room == Small::kSlots) return sizeof(Page<Small>);
    return room == Medium::kSlots ? sizeof(Page<Medium>) : sizeof(Page<Large>);
  }
  static constexpr bool isRoom(unsigned room) noexcept {
    return room == Small::kSlots || room == Medium::kSlots || room == Large::kSlots;
  }

  // `room` is one of roomFor().
  SharedRuleRecords(const SharedCursor& cursor, const SharedStorage& storage, uint8_t room) noexcept
      : cursor_(cursor), room_(room), place_(placeOf(storage, room)) {}

  size_t size() const noexcept {
    return withTable([](const auto& table) { return table.size(); });
  }
  static constexpr size_t memoryBytes() noexcept { return 0; }

  // A file has records for more rules from the beginning.
  static constexpr void widen(unsigned) noexcept {}

  bool fetch(const Fingerprint& fingerprint, double*& state) const noexcept {
    state = find(fingerprint);
    return true;
  }

  double* find(const Fingerprint& fingerprint) const noexcept {
    return withTable([&](const auto& table) -> double* {
      auto* record = table.find(fingerprint);
      return record == nullptr ? nullptr : record->state;
    });
  }

  bool read(const Fingerprint& fingerprint, RuleState& state) const noexcept {
    const double* found = find(fingerprint);
    if (found == nullptr) return false;
    state.reset(0);
    std::copy_n(found, 1 + room_, state.numbers);
    return true;
  }

  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    withTable([&](const auto& table) { table.prepare(fingerprint); });
  }

  PeerSlot slotOf(const Fingerprint& fingerprint) const noexcept {
    return withTable([&](const auto& table) {
      auto* record = table.find(fingerprint);
      return record == nullptr ? PeerSlot::of(fingerprint) : table.slotOf(record);
    });
  }

  // The state at a slot of this shard, as RuleRecords::at.
  double* at(const PeerSlot& slot, Fingerprint& fingerprint) const noexcept {
    return withTable([&](const auto& table) -> double* {
      auto* record = table.at(slot);
      if (record == nullptr) return nullptr;
      fingerprint = record->fingerprint;
      return record->state;
    });
  }

  double* insert(const Fingerprint& fingerprint, const RuleState& state) const noexcept {
    return withTable([&](auto& table) -> double* {
      auto* record = table.insert(fingerprint);
      if (record == nullptr) return nullptr;
      std::memcpy(record->state, state.numbers, sizeof record->state);
      return record->state;
    });
  }

  void erase(const Fingerprint& fingerprint) const noexcept {
    withTable([&](auto& table) {
      auto* record = table.find(fingerprint);
      if (record != nullptr) table.erase(record);
    });
  }

  template <class Visit>
  bool sweep(unsigned, uint64_t& cursor, Visit&& visit) const noexcept {
    return withTable([&](auto& table) {
      return table.sweep(cursor, [&](auto& record) {
        return visit(record.fingerprint, record.state, record.kSlots);
      });
    });
  }

  template <class Visit>
  bool visit(unsigned, uint64_t& cursor, Visit&& visit) const noexcept {
    return withTable([&](auto& table) {
      return table.sweep(cursor, [&](auto& record) {
        visit(record.fingerprint, record.state, record.kSlots);
        return false;
      });
    });
  }

  template <class Visit>
  void eachTable(Visit&& visit) const noexcept {
    withTable([&](auto& table) {
      if (table.size() > 0) visit(table);
    });
  }

  void clear() const noexcept {
    withTable([](auto& table) { table.clear(); });
  }

  void repair() const noexcept {
    withTable([](auto& table) { table.repair(); });
  }

 private:
  static TablePlace placeOf(const SharedStorage& storage, uint8_t room) noexcept {
    if (room == Small::kSlots) return storage.place<Small>();
    if (room == Medium::kSlots) return storage.place<Medium>();
    return storage.place<Large>();
  }

  const SharedCursor& cursor_;
  const uint8_t room_;
  const TablePlace place_;
};

// A value for each scope, in the head of its cursor.
template <class Value>
class SharedByScope {
 public:
  static_assert(std::is_trivially_copyable<Value>::value, "it is read from a file");

  SharedByScope(const RuleCursors& cursors, size_t offset) noexcept
      : cursors_(cursors), offset_(offset) {}

  Value& operator[](unsigned scope) const noexcept {
    unsigned char* const values = cursors_.scopes[scope].headBytes() + offset_;
    return reinterpret_cast<Value*>(values)[scope];
  }

 private:
  const RuleCursors& cursors_;
  const size_t offset_;
};

// The latest end of all bans, in the header of the file. It is never too early.
class SharedLatestEnd {
 public:
  explicit SharedLatestEnd(const SharedCursor& cursor) noexcept : cursor_(cursor) {}

  double value() const noexcept { return numberOf(bits().load(std::memory_order_relaxed)); }

  void raise(double end) noexcept {
    uint64_t other;
    std::memcpy(&other, &end, sizeof other);
    uint64_t current = bits().load(std::memory_order_relaxed);
    while (!(numberOf(current) >= end) && !bits().compare_exchange_weak(current, other)) {
    }
  }

  // Others may just begin a ban.
  static constexpr void clear() noexcept {}

 private:
  std::atomic<uint64_t>& bits() const noexcept { return cursor_.region->header().latestBanEnd; }

  static double numberOf(uint64_t bits) noexcept {
    double number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
  }

  const SharedCursor& cursor_;
};

class SharedRuleStorages {
 public:
  static constexpr bool kIsPrivate = false;

  using Storage = SharedStorage;
  using Records = SharedRuleRecords;
  using LatestEnd = SharedLatestEnd;
  template <class Value>
  using ByScope = SharedByScope<Value>;

  // All outlive the limiter. `rooms` has the room of each scope's records.
  SharedRuleStorages(const RuleCursors& cursors, ShardShape& shape, const uint8_t* rooms) noexcept
      : cursors_(cursors), shape_(shape), rooms_(rooms) {}

  Storage of(unsigned scope) const noexcept { return Storage(cursors_.scopes[scope], shape_); }
  Records records(unsigned scope, unsigned) const noexcept {
    return Records(cursors_.scopes[scope], of(scope), rooms_[scope]);
  }
  LatestEnd latestEnd() const noexcept { return LatestEnd(cursors_.common); }
  template <class Value>
  ByScope<Value> byScope() const noexcept {
    struct Values {
      Value values[kMaxScopes];
    };
    return ByScope<Value>(cursors_, common().template take<Values>());
  }
  template <class Value>
  SharedValue<Value> value() const noexcept {
    return common().template value<Value>();
  }

 private:
  Storage common() const noexcept { return Storage(cursors_.common, shape_); }

  const RuleCursors& cursors_;
  ShardShape& shape_;
  const uint8_t* const rooms_;
};

}  // namespace relay_limiter

// PrivateStorage says where a limiter of one process keeps its state: in the limiter. The limiters
// are templates over it; native/shared/storage.h has the other one, for state that several
// processes share.
#pragma once

#include <algorithm>

#include "../memory/key-store.h"
#include "../table/table.h"
#include "top-violators.h"

namespace relay_limiter {

template <class Record>
class PendingRecords;

// A value that the limiter contains.
template <class Value>
class OwnValue {
 public:
  Value& operator*() noexcept { return value_; }
  const Value& operator*() const noexcept { return value_; }
  Value* operator->() noexcept { return &value_; }
  const Value* operator->() const noexcept { return &value_; }

 private:
  Value value_{};
};

// Numbers the first violations and the bans.
class OwnOrder {
 public:
  uint64_t last() const noexcept { return last_; }
  uint64_t next() noexcept { return ++last_; }

 private:
  uint64_t last_ = 0;
};

// The texts of keys, in a KeyStore.
class OwnKeys : public KeyStore<> {
 public:
  // The budget for keys of more than OffenderTable::kShortKey code units: 64 bytes for each of
  // maxPeers, at least 1 MiB.
  static double longKeyBytes(double maxPeers) noexcept {
    return std::max(double{1 << 20}, maxPeers * 64);
  }

  // For storages that keep a text at the place of its record, which is known by now.
  template <class Record>
  void placeAt(Record&, const char16_t*, size_t) noexcept {}

  template <class Record>
  const StoredKey& of(const Record& record) const noexcept {
    return record.storedKey;
  }
};

struct PrivateStorage {
  template <class Record>
  using Table = relay_limiter::Table<Record>;
  template <class Record>
  using Pending = PendingRecords<Record>;
  template <class Value>
  using Stored = OwnValue<Value>;
  using Order = OwnOrder;
  template <class Record>
  using Keys = OwnKeys;
  using Ranking = TopViolators;

  template <class Record>
  Table<Record> table() const noexcept {
    return Table<Record>();
  }
  template <class Value>
  OwnValue<Value> value() const noexcept {
    return OwnValue<Value>();
  }
  OwnOrder order() const noexcept { return OwnOrder(); }
  template <class Record>
  OwnKeys keys(const Table<Record>&) const noexcept {
    return OwnKeys();
  }
};

}  // namespace relay_limiter

// SharedStorage keeps the state of a limiter in the shards of a shared file. A limiter with this
// storage works on one shard at a time: the one to which the cursor points.
//
// A process may end between any two writes. So what a shard contains can be derived from the tags
// and records of its pages, except for counters, and the head names the record that is being
// inserted or erased. The limiter's repair() makes all else from that.
//
// Whatever is read here may have been written by a damaged process: no number from the file is used
// as an index or a length before it is bounded.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../limiters/offender-table.h"
#include "../limiters/verdict.h"
#include "shard-lock.h"

namespace relay_limiter {

// The head of a shard; the limiter's values follow it. A check that is allowed uses no more than
// this cache line and a record.
struct ShardHead {
  ShardLock lock;
  // The latest instant that a call has used for this shard. Clocks of two processes differ by some
  // microseconds, and the one behind would refill the same span again.
  double latest;
  // The version of the secret under which the fingerprints of this shard were made.
  uint32_t secretVersion;
  // The record that is being inserted or erased: the number of its table in the high half, and its
  // index in the page counted from 1. 0 between two calls.
  uint32_t unfinished;
  // The version of the rules to which the counts in this head belong. 0 if it is unknown.
  uint32_t configVersion;
};

// The shard on which a limiter works.
struct SharedCursor {
  SharedRegion* region = nullptr;
  ShardHead* head = nullptr;
  uint32_t shard = 0;

  unsigned char* headBytes() const noexcept { return reinterpret_cast<unsigned char*>(head); }
};

// A value in the head of the shard.
template <class Value>
class SharedValue {
 public:
  static_assert(std::is_trivially_copyable<Value>::value, "it is read from a file");

  SharedValue(const SharedCursor& cursor, size_t offset) noexcept
      : cursor_(cursor), offset_(offset) {}

  Value& operator*() const noexcept {
    return *reinterpret_cast<Value*>(cursor_.headBytes() + offset_);
  }
  Value* operator->() const noexcept { return &**this; }

 private:
  const SharedCursor& cursor_;
  const size_t offset_;
};

// Where a table lies: its number, counted from 1, the bytes of a shard's earlier pages, and the
// offset of its size in a head.
struct TablePlace {
  uint32_t number;
  size_t page;
  size_t size;
};

// A table with one page in each shard. See Table, which has the same methods.
template <class Record>
class SharedTable {
  using PageOf = Page<Record>;

 public:
  using RecordType = Record;

  SharedTable(const SharedCursor& cursor, const TablePlace& place) noexcept
      : cursor_(cursor),
        number_(place.number),
        pageOffset_(place.page),
        size_(cursor, place.size) {}

  size_t size() const noexcept { return std::min<size_t>(*size_, PageOf::kCapacity); }
  static constexpr size_t memoryBytes() noexcept { return 0; }

  // A record never moves.
  static constexpr uint64_t epoch() noexcept { return 1; }

  Record* find(const Fingerprint& fingerprint) const noexcept { return page().find(fingerprint); }
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    page().prepare(fingerprint);
  }

  unsigned indexOf(const Record* record) const noexcept { return page().indexOf(record); }

  PeerSlot slotOf(Record* record) const noexcept {
    return PeerSlot::of(record->fingerprint,
                        PeerSlot::placeAt(cursor_.shard, page().indexOf(record)));
  }

  // The record at a slot in this shard, if it is still there; else nullptr.
  Record* at(const PeerSlot& slot) const noexcept {
    Record* record = page().at(slot.index());
    // An empty record has such words.
    if ((slot.low | slot.high) == 0) return nullptr;
    return slot.isOf(record->fingerprint) ? record : nullptr;
  }

  Record* insert(const Fingerprint& fingerprint) noexcept {
    Record* record = page().place(fingerprint, [this](const Record* placed) { announce(placed); });
    if (record != nullptr) *size_ = size() + 1;
    return record;
  }

  void erase(Record* record) noexcept {
    announce(record);
    page().erase(record);
    subtract(1);
  }

  Record* replace(Record* record, const Fingerprint& fingerprint) noexcept {
    erase(record);
    return insert(fingerprint);
  }

  template <class Visit>
  void sample(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    page().sample(fingerprint, most, visit);
  }

  // Visits the whole page.
  template <class Visit>
  bool sweep(uint64_t&, Visit&& visit) noexcept {
    if (*size_ == 0) return false;
    const unsigned erased = page().sweep([&](Record& record) {
      if (!visit(record)) return false;
      announce(&record);
      return true;
    });
    subtract(erased);
    return false;
  }

  template <class Visit>
  void forEach(Visit&& visit) noexcept {
    if (*size_ == 0) return;
    page().sweep([&](Record& record) {
      visit(record);
      return false;
    });
  }

  void clear() noexcept {
    uint64_t cursor = 0;
    sweep(cursor, [](const Record&) { return true; });
  }

  // Makes the page consistent again after an operation on it was interrupted. A limiter calls this
  // for all its tables before it erases a record.
  void repair() noexcept {
    const uint32_t unfinished = cursor_.head->unfinished;
    const bool isHere = unfinished >> 16 == number_;
    page().repair(isHere ? (unfinished & 0xffff) - 1 : PageOf::kIndices,
                  [this](const Record& record) {
                    return record.fingerprint.low != 0 &&
                           cursor_.region->shardOf(record.fingerprint) == cursor_.shard;
                  });
    *size_ = page().count();
  }

 private:
  PageOf& page() const noexcept {
    unsigned char* const pages = cursor_.region->pagesAt(pageOffset_);
    return reinterpret_cast<PageOf*>(pages)[cursor_.shard];
  }

  // A size in the file may be any number, and must not wrap around: 0 means that nothing is found.
  void subtract(size_t erased) noexcept { *size_ = std::max(size(), erased) - erased; }

  void announce(const Record* record) noexcept {
    cursor_.head->unfinished = number_ << 16 | (page().indexOf(record) + 1);
    keepOrderOfWrites();
  }

  const SharedCursor& cursor_;
  const uint32_t number_;
  const size_t pageOffset_;
  SharedValue<size_t> size_;
};

// Numbers the first violations and the bans of all shards.
class SharedOrder {
 public:
  explicit SharedOrder(const SharedCursor& cursor) noexcept : cursor_(cursor) {}

  uint64_t last() const noexcept { return order().load(std::memory_order_relaxed); }
  uint64_t next() noexcept { return order().fetch_add(1, std::memory_order_relaxed) + 1; }

 private:
  std::atomic<uint64_t>& order() const noexcept { return cursor_.region->header().order; }

  const SharedCursor& cursor_;
};

// The texts of keys: each slot of a page of offenders has a place for one text of up to 128 code
// units. The places are allocated in blocks; if there is no room for a block, keys are not stored.
template <class Record>
class SharedKeys {
 public:
  static constexpr size_t kMostUnits = 128;
  static constexpr size_t kNameBytes = kMostUnits * sizeof(char16_t);
  static constexpr size_t kBytes = Page<Record>::kCapacity * kNameBytes;

  // `before`: the bytes of the names of a shard's earlier tables. `blocks`: the offset of a number
  // in a head, in which bit i says that block i of the names is allocated.
  SharedKeys(const SharedCursor& cursor, const SharedTable<Record>& table, size_t before,
             size_t blocks) noexcept
      : cursor_(cursor), table_(table), before_(before), blocks_(cursor, blocks) {}

  // No longer key is stored.
  static constexpr double longKeyBytes(double) noexcept { return 0; }
  static constexpr size_t memoryBytes() noexcept { return 0; }

  // placeAt() does the work.
  static constexpr bool add(const char16_t*, size_t, StoredKey&) noexcept { return true; }

  void placeAt(Record& record, const char16_t* text, size_t length) noexcept {
    const size_t number = numberOf(record);
    if (text == nullptr || length > kMostUnits || !allocate(number)) return;
    unsigned bits = 0;
    for (size_t i = 0; i < length; ++i) bits |= text[i];
    const bool isTwoByte = bits > 0xff;
    unsigned char* const place = nameAt(number);
    if (isTwoByte) {
      std::memcpy(place, text, length * sizeof(char16_t));
    } else {
      for (size_t i = 0; i < length; ++i) place[i] = static_cast<unsigned char>(text[i]);
    }
    record.storedKey = {kPlaced, static_cast<uint32_t>(length), isTwoByte};
  }

  static constexpr void remove(const StoredKey&) noexcept {}
  static constexpr void clear() noexcept {}

  StoredKey of(const Record& record) const noexcept {
    if (!record.storedKey) return {};
    // A damaged file may contain a bool that is neither true nor false.
    unsigned char isTwoByte;
    std::memcpy(&isTwoByte, &record.storedKey.isTwoByte, sizeof isTwoByte);
    const uint32_t length = std::min<uint32_t>(record.storedKey.length, kMostUnits);
    const size_t number = numberOf(record);
    if ((*blocks_ >> blockOf(number) & 1) == 0) return {};
    return {nameAt(number), length, isTwoByte != 0};
  }

 private:
  static_assert(kBytes % kSharedBlock == 0 && kBytes / kSharedBlock <= 32, "a bit for each block");

  // In a record, this says that its place contains its text. It is no address.
  static constexpr const void* kPlaced = "";

  // The number of the record's slot, without the heads of groups.
  size_t numberOf(const Record& record) const noexcept {
    const unsigned index = table_.indexOf(&record);
    return index - index / (Group<Record>::kSlots + 1) - 1;
  }
  static size_t blockOf(size_t number) noexcept { return number * kNameBytes / kSharedBlock; }
  size_t namesAt() const noexcept {
    return cursor_.region->namesAt(before_) + cursor_.shard * kBytes;
  }
  unsigned char* nameAt(size_t number) const noexcept {
    return cursor_.region->file().bytes() + namesAt() + number * kNameBytes;
  }

  bool allocate(size_t number) noexcept {
    const size_t block = blockOf(number);
    uint32_t& blocks = *blocks_;
    if ((blocks >> block & 1) != 0) return true;
    const size_t offset = namesAt() + block * kSharedBlock;
    if (!cursor_.region->file().allocate(offset, kSharedBlock)) return false;
    blocks |= uint32_t{1} << block;
    return true;
  }

  const SharedCursor& cursor_;
  const SharedTable<Record>& table_;
  const size_t before_;
  SharedValue<uint32_t> blocks_;
};

// In place of PendingRecords: a shared table restores what a snapshot has under a digest as peers,
// or not at all.
template <class Record>
class NoPending {
 public:
  static constexpr unsigned kMostSecrets = 1;

  static constexpr bool isEmpty() noexcept { return true; }
  static constexpr bool needsText() noexcept { return false; }
  static constexpr Record* find(const Key&) noexcept { return nullptr; }
  static constexpr bool take(const Key&, Record&) noexcept { return false; }
  static constexpr void remove(const Key&) noexcept {}
  template <class Visit>
  static constexpr bool sweep(size_t, uint64_t&, Visit&&) noexcept {
    return false;
  }
  static constexpr void clear() noexcept {}
  static constexpr size_t memoryBytes() noexcept { return 0; }
};

// In place of TopViolators: those of all shards are found by a scan.
class NoRanking {
 public:
  static constexpr void count(const TopViolators::Violator&, uint64_t, size_t) noexcept {}
  static constexpr void remove(const TopViolators::Violator&) noexcept {}
  static constexpr void clear() noexcept {}
};

// Assigns places in the head of a shard and among its pages, in the order in which a limiter
// constructs its members.
struct ShardShape {
  size_t headBytes = sizeof(ShardHead);
  // Of all pages.
  size_t pageBytes = 0;
  size_t nameBytes = 0;
  uint32_t tables = 0;
};

class SharedStorage {
 public:
  template <class Record>
  using Table = SharedTable<Record>;
  template <class Record>
  using Pending = NoPending<Record>;
  template <class Value>
  using Stored = SharedValue<Value>;
  using Order = SharedOrder;
  template <class Record>
  using Keys = SharedKeys<Record>;
  using Ranking = NoRanking;

  // Both outlive the limiter.
  SharedStorage(const SharedCursor& cursor, ShardShape& shape) noexcept
      : cursor_(cursor), shape_(shape) {}

  template <class Record>
  TablePlace place() const noexcept {
    const size_t page = shape_.pageBytes;
    shape_.pageBytes += sizeof(Page<Record>);
    const size_t size = take<size_t>();
    return {++shape_.tables, page, size};
  }
  template <class Record>
  Table<Record> table() const noexcept {
    return Table<Record>(cursor_, place<Record>());
  }
  // The offset of a value in a head.
  template <class Value>
  size_t take() const noexcept {
    const size_t offset = roundUp(shape_.headBytes, alignof(Value));
    shape_.headBytes = offset + sizeof(Value);
    return offset;
  }
  template <class Value>
  SharedValue<Value> value() const noexcept {
    return SharedValue<Value>(cursor_, take<Value>());
  }
  SharedOrder order() const noexcept { return SharedOrder(cursor_); }
  template <class Record>
  SharedKeys<Record> keys(const Table<Record>& table) const noexcept {
    const size_t before = shape_.nameBytes;
    shape_.nameBytes += SharedKeys<Record>::kBytes;
    return SharedKeys<Record>(cursor_, table, before, take<uint32_t>());
  }

 private:
  const SharedCursor& cursor_;
  ShardShape& shape_;
};

}  // namespace relay_limiter

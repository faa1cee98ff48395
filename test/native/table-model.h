// The table beside a std::unordered_map: every answer of the one is checked against the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../../native/table/table.h"
#include "require.h"
#include "test-memory.h"

// A record has `kRecordBytes`: 32, 64 or 128.
template <size_t kRecordBytes>
class TableModel {
 public:
  using Fingerprint = relay_limiter::Fingerprint;

  size_t size() const { return model_.size(); }
  size_t memory() const { return table_.memoryBytes(); }

  // False where the table takes no more; that may only be where the caller knows why. `fingerprint`
  // is not zero, as no fingerprint is.
  bool insert(const Fingerprint& fingerprint, uint64_t value) {
    if (find(fingerprint)) return true;
    Record* record = table_.insert(fingerprint);
    if (record == nullptr) {
      require(table_.size() == model_.size(), "a refusal changes no size");
      require(table_.find(fingerprint) == nullptr, "what was refused is not there");
      return false;
    }
    require(record->fingerprint == fingerprint, "an insert writes the fingerprint");
    require(table_.find(fingerprint) == record, "what was inserted is found");
    record->set(value);
    model_[fingerprint] = {value, sweeps_, 0};
    require(table_.at(table_.slotOf(record)) == record, "a new seat holds");
    return true;
  }

  bool find(const Fingerprint& fingerprint) {
    table_.prepare(fingerprint);
    Record* record = table_.find(fingerprint);
    const auto entry = model_.find(fingerprint);
    require((record != nullptr) == (entry != model_.end()), "both have it or neither");
    require(record == nullptr || (record->value == entry->second.value && record->isWhole()),
            "a record keeps its value");
    if (record != nullptr) remember(fingerprint, record);
    return record != nullptr;
  }

  // Asks again where records were found last: whatever became of those since, a seat leads to the
  // right record or to none, and a pointer of this epoch to some record.
  void recall() {
    for (const Found& found : found_) {
      const Record* record = table_.at(found.seat);
      require(record == nullptr || record == table_.find(found.fingerprint),
              "a seat does not deceive");
      if (found.epoch != table_.epoch() || !(found.record->fingerprint == found.fingerprint))
        continue;
      require(found.record == table_.find(found.fingerprint), "nor does a pointer in its epoch");
      require(found.record == record, "and where that holds, so does the seat");
    }
  }

  // Any three words are safe to ask for.
  void ask(const relay_limiter::PeerSlot& seat) const {
    const Record* record = table_.at(seat);
    require(record == nullptr || record == table_.find(record->fingerprint), "words lead astray");
  }

  bool erase(const Fingerprint& fingerprint) {
    Record* record = table_.find(fingerprint);
    require((record != nullptr) == (model_.erase(fingerprint) == 1), "both have it or neither");
    if (record == nullptr) return false;
    table_.erase(record);
    require(table_.find(fingerprint) == nullptr, "what was erased is gone");
    require(table_.size() == model_.size(), "an erase takes one");
    return true;
  }

  // Inserts `fingerprint` in the place of one that a sample has visited. False where there is none,
  // or where the table takes no more; that may only be where the caller knows why.
  bool replaceOne(const Fingerprint& fingerprint, uint64_t value) {
    if (find(fingerprint)) return false;
    std::vector<Record*> sample;
    table_.sample(fingerprint, kSampled, [&](Record& record) {
      require(table_.find(record.fingerprint) == &record, "a sample is of what is there");
      sample.push_back(&record);
      return false;
    });
    require(sample.size() == std::min<size_t>(kSampled, model_.size()), "a sample is complete");
    if (sample.empty()) return false;
    Record* last = sample.back();
    std::sort(sample.begin(), sample.end());
    const bool isTwice = std::adjacent_find(sample.begin(), sample.end()) != sample.end();
    require(!isTwice, "a sample visits each once");
    const Fingerprint candidate = last->fingerprint;
    const uint64_t epoch = table_.epoch();
    const size_t memory = table_.memoryBytes();
    allocationsLeft = 0;
    Record* record = table_.replace(last, fingerprint);
    allocationsLeft = kNoneFails;
    if (record == nullptr) {
      require(table_.epoch() == epoch && table_.memoryBytes() == memory, "nothing has changed");
      require(table_.find(fingerprint) == nullptr, "what found no memory is not there");
      require(find(candidate), "and nothing has gone for it");
      record = table_.replace(table_.find(candidate), fingerprint);
      if (record == nullptr) return false;
    }
    require(table_.find(fingerprint) == record, "what came is found");
    record->set(value);
    require(table_.find(candidate) == nullptr, "what went is not");
    model_.erase(candidate);
    model_[fingerprint] = {value, sweeps_, 0};
    require(table_.size() == model_.size(), "one comes for one that goes");
    return true;
  }

  // One step of a sweep that erases every record whose value is a multiple of `divisor`; goes on
  // where the last step ended. False at the end, where every record that was there throughout must
  // have been visited.
  bool sweepStep(uint64_t divisor) {
    if (!sweeping_) {
      ++sweeps_;
      cursor_ = 0;
    }
    sweeping_ = table_.sweep(cursor_, [&](Record& record) {
      const auto entry = model_.find(record.fingerprint);
      require(entry != model_.end(), "the sweep meets only what is there");
      require(entry->second.value == record.value && record.isWhole(),
              "the sweep meets records whole");
      entry->second.swept = sweeps_;
      if (record.value % divisor != 0) return false;
      model_.erase(entry);
      return true;
    });
    require(table_.size() == model_.size(), "a sweep takes what it was told to");
    recall();
    if (sweeping_) return true;
    for (const auto& [fingerprint, entry] : model_) {
      require(entry.born == sweeps_ || entry.swept == sweeps_, "a sweep passes nobody over");
    }
    return false;
  }

  void compare() {
    require(table_.size() == model_.size(), "sizes agree");
    recall();
    for (const auto& [fingerprint, entry] : model_) {
      Record* record = table_.find(fingerprint);
      require(record != nullptr && record->value == entry.value && record->isWhole(),
              "every record is within reach");
      remember(fingerprint, record);
    }
    ++rounds_;
    size_t visited = 0;
    table_.forEach([&](Record& record) {
      const auto entry = model_.find(record.fingerprint);
      require(entry != model_.end(), "visits what is there");
      require(entry->second.visited != rounds_, "visits nothing twice");
      entry->second.visited = rounds_;
      ++visited;
    });
    require(visited == model_.size(), "visits everything");
  }

  void clear() {
    table_.clear();
    model_.clear();
    require(table_.size() == 0, "clear leaves nothing");
    require(table_.memoryBytes() == 0, "clear gives everything back");
    recall();
  }

 private:
  struct alignas(std::min<size_t>(kRecordBytes, 64)) Record {
    Fingerprint fingerprint;
    uint64_t value;
    // The table must keep the whole record.
    uint64_t copies[kRecordBytes / 8 - 3];

    void set(uint64_t content) {
      value = content;
      for (uint64_t& copy : copies) copy = content;
    }
    bool isWhole() const {
      return std::all_of(std::begin(copies), std::end(copies),
                         [this](uint64_t copy) { return copy == value; });
    }
  };

  struct Entry {
    uint64_t value;
    // The sweep during which it came, and the last one that visited it: 0 for none.
    uint64_t born;
    uint64_t swept;
    // The last comparison that visited it.
    uint64_t visited = 0;
  };

  struct Hash {
    size_t operator()(const Fingerprint& fingerprint) const {
      return static_cast<size_t>((fingerprint.low ^ fingerprint.high) * 0x9e3779b97f4a7c15u >> 16);
    }
  };

  struct Found {
    Fingerprint fingerprint;
    relay_limiter::PeerSlot seat = relay_limiter::PeerSlot::of({0, 0});
    Record* record = nullptr;
    uint64_t epoch = 0;
  };

  static constexpr unsigned kSampled = 16;
  static constexpr size_t kMostFound = 256;

  void remember(const Fingerprint& fingerprint, Record* record) {
    found_[finds_++ % kMostFound] = {fingerprint, table_.slotOf(record), record, table_.epoch()};
  }

  relay_limiter::Table<Record, TestMemory> table_;
  std::unordered_map<Fingerprint, Entry, Hash> model_;
  uint64_t sweeps_ = 0;
  uint64_t rounds_ = 0;
  uint64_t cursor_ = 0;
  bool sweeping_ = false;
  // The last look-ups that found something.
  Found found_[kMostFound] = {};
  size_t finds_ = 0;
};

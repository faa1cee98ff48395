// Eviction: if a limiter has maxPeers peers, a new peer replaces the one with the lowest
// EvictionCost among a sample. The cost of the search is bounded, and a banned peer is never
// evicted. Counterpart of lib/engine/js/eviction.ts.
#pragma once

#include "../table/table.h"
#include "eviction-cost.h"
#include "offenders.h"

namespace relay_limiter {

// The number of records that a search compares.
constexpr unsigned kSample = 16;
// The maximum number of records of a table that a search visits, if it may evict none of the first
// kSample.
constexpr unsigned kMostLookedAt = 1024;

// The record with the lowest cost among those offered, if that is below the newcomer's own cost.
template <class Record>
class EvictionCandidate {
 public:
  explicit EvictionCandidate(const EvictionCost& newcomerCost) noexcept : cost_(newcomerCost) {}

  // nullptr if no offered record may be evicted.
  Record* record() const noexcept { return record_; }
  const EvictionCost& cost() const noexcept { return cost_; }

  // Whether a record whose peer would be fresh after so many seconds can have a lower cost. The
  // other parts of a cost are expensive to look up; false saves that work.
  bool canImprove(double secondsUntilFresh) const noexcept {
    return cost_.isOffender || secondsUntilFresh < cost_.tieBreaker;
  }

  // True if no other record can be better.
  bool offer(Record& record, const EvictionCost& cost) noexcept {
    if (!(cost < cost_)) return false;
    record_ = &record;
    cost_ = cost;
    return cost.isZero();
  }

 private:
  Record* record_ = nullptr;
  EvictionCost cost_;
};

// Calls offer(record) for kSample random records, and for kSample more as long as `best` has no
// record, up to `most` records in total. The search ends early if offer() returns true. It fetches
// the memory of a whole sample at once, because one record at a time would wait for a cache miss
// each.
template <class Table, class Offenders, class Candidate, class Offer>
void offerSample(Table& table, const Offenders& offenders, const Fingerprint& fingerprint,
                 unsigned most, const EvictionCandidate<Candidate>& best, Offer&& offer) noexcept {
  using Record = typename Table::RecordType;
  // Without offenders every record may be evicted, so the first sample is enough.
  if (offenders.size() == 0) return table.sample(fingerprint, kSample, offer);
  Record* sample[kSample];
  unsigned size = 0;
  // Returns whether the search is over.
  const auto offerAll = [&] {
    for (unsigned i = 0; i < size; ++i) {
      if (offer(*sample[i])) return true;
    }
    size = 0;
    return best.record() != nullptr;
  };
  bool isOver = false;
  table.sample(fingerprint, most, [&](Record& record) {
    offenders.prepare(record.fingerprint);
    sample[size++] = &record;
    isOver = size == kSample && offerAll();
    return isOver;
  });
  if (!isOver) offerAll();
}

// Whether a newcomer may get a record, and which peer is evicted for it. The limiter evicts that
// peer only after the newcomer has its record: if there is no memory, nothing changes.
template <class Record>
struct Admission {
  bool isAllowed;
  bool needsEviction;
  // The evicted peer's record in the newcomer's table, which the newcomer replaces. nullptr if the
  // peer has no record there, or if no eviction is needed.
  Record* record;
  Fingerprint evicted;
  EvictionCost cost;

  static Admission withoutEviction() noexcept {
    return {true, false, nullptr, {0, 0}, EvictionCost::ofClean(0)};
  }
  static Admission denied() noexcept {
    return {false, false, nullptr, {0, 0}, EvictionCost::ofClean(0)};
  }
  static Admission byEviction(Record* record, const Fingerprint& evicted,
                              const EvictionCost& cost) noexcept {
    return {true, true, record, evicted, cost};
  }

  // Returns the newcomer's record; nullptr if there is no memory.
  template <class Table>
  Record* insert(Table& table, const Fingerprint& fingerprint) const noexcept {
    return record == nullptr ? table.insert(fingerprint) : table.replace(record, fingerprint);
  }
};

}  // namespace relay_limiter

// What a peer costs: the records of the tables, 32 bytes each, two a cache line. Violations, bans
// and names are the offenders' (offenders.h).
#pragma once

#include "table.h"

namespace relay_limiter {

struct alignas(32) Bucket {
  Fingerprint fingerprint;
  double tokens;
  double lastRefill;
};

struct alignas(32) LastAllowed {
  Fingerprint fingerprint;
  // kNever after a ban that is over.
  double at;
};

using Buckets = Table<Bucket>;
using AllowedTimes = Table<LastAllowed>;

// The peer's bucket, made full if it has none; nullptr where there is no memory.
inline Bucket* bucketOf(Buckets& buckets, const Fingerprint& print, double capacity,
                        double now) noexcept {
  Bucket* bucket = buckets.find(print);
  if (bucket != nullptr) return bucket;
  bucket = buckets.insert(print);
  if (bucket != nullptr) *bucket = {print, capacity, now};
  return bucket;
}

// Writes to `last`, or where that is nullptr to the record that the peer has or gets. False where
// there is no memory.
inline bool setAllowedAt(AllowedTimes& times, LastAllowed* last, const Fingerprint& print,
                         double at) noexcept {
  if (last == nullptr) last = times.find(print);
  if (last == nullptr) last = times.insert(print);
  if (last != nullptr) *last = {print, at};
  return last != nullptr;
}

template <class Record>
void erase(Table<Record>& table, const Fingerprint& print) noexcept {
  Record* record = table.find(print);
  if (record != nullptr) table.erase(record);
}

}  // namespace relay_limiter

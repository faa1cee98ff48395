// PrivateRuleStorages says where a RuleLimiter of one process keeps its state: in the limiter.
// native/shared/rule-storage.h has the other ones, for state that several processes share. There
// each scope has a storage of its own, because the keys of a check lie in different shards.
#pragma once

#include "../storage.h"
#include "offenders.h"
#include "records.h"

namespace relay_limiter {

// A value for each scope.
template <class Value>
class OwnByScope {
 public:
  Value& operator[](unsigned scope) noexcept { return values_[scope]; }
  const Value& operator[](unsigned scope) const noexcept { return values_[scope]; }

 private:
  Value values_[kMaxScopes]{};
};

struct PrivateRuleStorages {
  static constexpr bool kIsPrivate = true;

  using Storage = PrivateStorage;
  using Records = RuleRecords;
  using LatestEnd = OwnLatestEnd;
  template <class Value>
  using ByScope = OwnByScope<Value>;

  Storage of(unsigned) const noexcept { return Storage(); }
  // The records of a scope that has so many slots.
  Records records(unsigned, unsigned slots) const noexcept { return Records(slots); }
  LatestEnd latestEnd() const noexcept { return LatestEnd(); }
  template <class Value>
  ByScope<Value> byScope() const noexcept {
    return ByScope<Value>();
  }
  // A value of the whole limiter.
  template <class Value>
  OwnValue<Value> value() const noexcept {
    return OwnValue<Value>();
  }
};

}  // namespace relay_limiter

// LeaseTable: tokens that may be spent until a time, by peer. Twin of lib/engine/js/lease-table.ts:
// same names, same order of statements. It refills nothing, and knows nobody that gave them.
#pragma once

#include "records.h"

namespace relay_limiter {

class LeaseTable {
 public:
  // Takes `cost` if there is so much and its time is not over.
  bool spend(const Fingerprint& fingerprint, double cost, double now) noexcept {
    Lease* lease = leases_.find(fingerprint);
    if (lease == nullptr) return false;
    if (!(now < lease->until) || !(lease->tokens >= cost)) return false;
    lease->tokens -= cost;
    return true;
  }

  // False, and nothing has changed, where a new peer finds no memory.
  bool set(const Fingerprint& fingerprint, double tokens, double until) noexcept {
    Lease* lease = leases_.find(fingerprint);
    if (lease == nullptr) lease = leases_.insert(fingerprint);
    if (lease == nullptr) return false;
    *lease = {fingerprint, tokens, until};
    return true;
  }

  double tokens(const Fingerprint& fingerprint) const noexcept {
    const Lease* lease = leases_.find(fingerprint);
    return lease == nullptr ? 0.0 : lease->tokens;
  }

  void remove(const Fingerprint& fingerprint) noexcept { erase(leases_, fingerprint); }

  double total(double now) noexcept {
    double total = 0;
    leases_.forEach([&](const Lease& lease) {
      if (now < lease.until) total += lease.tokens;
    });
    return total;
  }

  void clear() noexcept { leases_.clear(); }
  size_t memoryBytes() const noexcept { return leases_.memoryBytes(); }

 private:
  Leases leases_;
};

}  // namespace relay_limiter

// LeaseTable stores a lease per peer: tokens that the peer may spend until a time. It never refills
// a lease, and the caller decides how large a lease is. Counterpart of
// lib/engine/js/lease-table.ts.
#pragma once

#include "records.h"

namespace relay_limiter {

class LeaseTable {
 public:
  // Takes `cost` tokens; false if the lease has too few or has expired.
  bool spend(const Fingerprint& fingerprint, double cost, double now) noexcept {
    Lease* lease = leases_.find(fingerprint);
    if (lease == nullptr) return false;
    if (!(now < lease->until) || !(lease->tokens >= cost)) return false;
    lease->tokens -= cost;
    return true;
  }

  // Stores a lease in place of an earlier one. False if there is no memory for a new peer; then
  // nothing has changed.
  bool set(const Fingerprint& fingerprint, double tokens, double until) noexcept {
    Lease* lease = leases_.find(fingerprint);
    if (lease == nullptr) lease = leases_.insert(fingerprint);
    if (lease == nullptr) return false;
    *lease = {fingerprint, tokens, until};
    return true;
  }

  // The tokens of a lease, expired or not; 0 without one.
  double tokens(const Fingerprint& fingerprint) const noexcept {
    const Lease* lease = leases_.find(fingerprint);
    return lease == nullptr ? 0.0 : lease->tokens;
  }

  void remove(const Fingerprint& fingerprint) noexcept { erase(leases_, fingerprint); }

  // The tokens of all leases that have not expired. Takes time in proportion to the leases.
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

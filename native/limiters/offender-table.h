// OffenderTable stores the violations and the keys of offenders, the order of their first
// violations, and a list of the worst. It knows no bans.
//
// The memory for keys is bounded. A key of up to kShortKey code units is always stored. Longer keys
// share a budget: a key of up to kLongKey units is stored if it fits the budget, a longer one only
// if the longer keys together stay within a quarter of it. So a few huge keys leave memory for
// others. An offender without a stored key is punished like any other, but no list names it. This
// is decided once, when the peer becomes an offender.
#pragma once

#include "../memory/compiler.h"
#include "counts.h"
#include "storage.h"

namespace relay_limiter {

struct alignas(64) Offender {
  Fingerprint fingerprint;
  uint64_t violations;
  // The position in the order of first violations; 0 without violations.
  uint64_t order;
  // Empty if the key is not stored.
  StoredKey storedKey;
};

// The position of an offender in a snapshot: offenders with violations in the order of their first
// violations, then those with only a ban in the order of their bans.
struct SnapshotPosition {
  uint64_t order;
  Fingerprint fingerprint;

  bool operator<(const SnapshotPosition& other) const noexcept { return order < other.order; }

  // Added to the order of an offender without violations.
  static constexpr uint64_t kBanOnly = uint64_t{1} << 63;
};

template <class Storage>
class BasicOffenderTable {
 public:
  static constexpr size_t kTop = TopViolators::kListed;

  explicit BasicOffenderTable(double maxPeers, const Storage& storage = Storage()) noexcept
      : maxLongKeyBytes_(Keys::longKeyBytes(maxPeers)),
        table_(storage.template table<Offender>()),
        keys_(storage.template keys<Offender>(table_)),
        totals_(storage.template value<Totals>()),
        order_(storage.order()) {}

  size_t size() const noexcept { return table_.size(); }
  uint64_t totalViolations() const noexcept { return totals_->violations.value(); }
  // The number of offenders without a stored key.
  size_t unnamed() const noexcept { return totals_->unnamed; }
  size_t memoryBytes() const noexcept { return table_.memoryBytes() + keys_.memoryBytes(); }

  // Most limiters have no offender at all, and then there is no look-up.
  Offender* find(const Fingerprint& fingerprint) const noexcept {
    return table_.size() == 0 ? nullptr : table_.find(fingerprint);
  }

  // A pointer to an offender stays dereferenceable until this number changes; see Table::epoch().
  uint64_t epoch() const noexcept { return table_.epoch(); }

  // Fetches the memory that find() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    table_.prepare(fingerprint);
  }

  uint64_t violations(const Fingerprint& fingerprint) const noexcept {
    const Offender* offender = find(fingerprint);
    return offender == nullptr ? 0 : offender->violations;
  }

  // A new offender needs the key's text. nullptr if there is no memory.
  Offender* findOrInsert(const Key& key) noexcept {
    Offender* offender = find(key.fingerprint);
    if (offender != nullptr) return offender;
    StoredKey stored = {};
    const size_t bytes = longKeyBytes(key.length);
    const double most = key.length > kLongKey ? maxLongKeyBytes_ / 4 : maxLongKeyBytes_;
    const bool storesKey = bytes == 0 || static_cast<double>(totals_->longKeyBytes + bytes) <= most;
    if (storesKey && !keys_.add(key.text, key.length, stored)) return nullptr;
    offender = table_.insert(key.fingerprint);
    if (offender == nullptr) {
      keys_.remove(stored);
      return nullptr;
    }
    *offender = {key.fingerprint, 0, 0, stored};
    if (storesKey) keys_.placeAt(*offender, key.text, key.length);
    if (offender->storedKey) {
      totals_->longKeyBytes += bytes;
    } else {
      ++totals_->unnamed;
    }
    return offender;
  }

  // Sets an offender's violations, which never decrease.
  void setViolations(Offender& offender, uint64_t violations) noexcept {
    if (offender.violations == 0) {
      offender.order = nextOrder();
      if (offender.storedKey) ++totals_->violators;
    }
    const uint64_t before = offender.violations;
    totals_->violations.add(violations - before);
    offender.violations = violations;
    if (offender.storedKey) top_.count(violatorOf(offender), before, totals_->violators - 1);
  }

  void remove(Offender& offender) noexcept {
    if (offender.violations > 0 && offender.storedKey) {
      --totals_->violators;
      top_.remove(violatorOf(offender));
    }
    totals_->violations.subtract(offender.violations);
    if (offender.storedKey) {
      totals_->longKeyBytes -= longKeyBytes(offender.storedKey.length);
      keys_.remove(offender.storedKey);
    } else {
      --totals_->unnamed;
    }
    table_.erase(&offender);
  }

  void clear() noexcept {
    table_.clear();
    keys_.clear();
    top_.clear();
    *totals_ = Totals();
  }

  // Makes the table consistent again after an operation on it was interrupted. Removes offenders
  // for which isOffender(offender) is false.
  template <class IsOffender>
  void repair(IsOffender&& isOffender) noexcept {
    table_.repair();
    uint64_t cursor = 0;
    table_.sweep(cursor, [&](const Offender& offender) { return !isOffender(offender); });
    *totals_ = Totals();
    table_.forEach([&](const Offender& offender) {
      totals_->violations.add(offender.violations);
      if (!offender.storedKey) ++totals_->unnamed;
      if (offender.storedKey && offender.violations > 0) ++totals_->violators;
    });
  }

  // Writes the offenders with the most violations to `top` and returns their number. The order is
  // by violations, then by the first violation. Only offenders with a stored key are included.
  size_t topViolators(const Offender* (&top)[kTop]) noexcept {
    if (!top_.isComplete(totals_->violators)) recount();
    for (size_t i = 0; i < top_.size(); ++i) top[i] = find(top_[i].fingerprint);
    return top_.size();
  }

  // The key of an offender; empty if it is not stored.
  decltype(auto) keyOf(const Offender& offender) const noexcept { return keys_.of(offender); }

  // Visits some offenders with a stored key; see Table::sweep.
  template <class Visit>
  bool sweepNamed(uint64_t& cursor, Visit&& visit) noexcept {
    return table_.sweep(cursor, [&](const Offender& offender) {
      if (offender.storedKey) visit(offender);
      return false;
    });
  }

  // The order of the latest first violation or ban. Later ones get a higher order.
  uint64_t lastOrder() const noexcept { return order_.last(); }
  uint64_t nextOrder() noexcept { return order_.next(); }

 private:
  using Keys = typename Storage::template Keys<Offender>;

  struct Totals {
    // The part of the budget for longer keys that is in use.
    size_t longKeyBytes = 0;
    // The number of offenders with violations and a stored key.
    size_t violators = 0;
    // The number of offenders without a stored key.
    size_t unnamed = 0;
    // The violations of all offenders.
    Sum violations;
  };

  static TopViolators::Violator violatorOf(const Offender& offender) noexcept {
    return {offender.fingerprint, offender.violations, offender.order};
  }

  void recount() noexcept {
    size_t others = 0;
    top_.clear();
    table_.forEach([&](const Offender& offender) {
      if (offender.violations == 0 || !offender.storedKey) return;
      top_.count(violatorOf(offender), 0, others++);
    });
  }

  // The part of the budget for longer keys that a key uses, at two bytes per code unit.
  static size_t longKeyBytes(size_t length) noexcept {
    return length > kShortKey ? length * sizeof(char16_t) : 0;
  }

  // In code units; see the top of this file.
  static constexpr size_t kShortKey = 128;
  static constexpr size_t kLongKey = 1024;

  // The budget for keys longer than kShortKey, in bytes.
  const double maxLongKeyBytes_;
  typename Storage::template Table<Offender> table_;
  Keys keys_;
  typename Storage::Ranking top_;
  typename Storage::template Stored<Totals> totals_;
  typename Storage::Order order_;
};

using OffenderTable = BasicOffenderTable<PrivateStorage>;

}  // namespace relay_limiter

// Offenders stores the peers with violations or a ban: their violations, their keys and the order
// in which they offended. The limiter decides when a ban is over. Counterpart of
// lib/engine/js/offenders.ts.
//
// The memory for keys is bounded. A key of up to kShortKey code units is always stored. Longer keys
// share a budget: a key of up to kLongKey units is stored if it fits the budget, a longer one only
// if the longer keys together stay within a quarter of it. So a few huge keys leave memory for
// others. An offender without a stored key is punished like any other, but no list names it. This
// is decided once, when the peer becomes an offender.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "../memory/compiler.h"
#include "../memory/key-store.h"
#include "../table/table.h"
#include "arithmetic.h"
#include "bans.h"
#include "counts.h"
#include "eviction-cost.h"
#include "top-violators.h"

namespace relay_limiter {

struct alignas(64) Offender {
  Fingerprint fingerprint;
  uint64_t violations;
  // The position in the order of first violations; 0 without violations.
  uint64_t order;
  // Empty if the key is not stored.
  StoredKey storedKey;
};

class Offenders {
 public:
  static constexpr size_t kTop = TopViolators::kListed;

  explicit Offenders(double maxPeers) noexcept
      : maxLongKeyBytes_(std::max(double{1 << 20}, maxPeers * 64)) {}

  size_t size() const noexcept { return table_.size(); }
  const Bans& bans() const noexcept { return bans_; }
  uint64_t totalViolations() const noexcept { return totalViolations_.value(); }
  // The number of offenders without a stored key.
  size_t unnamed() const noexcept { return unnamed_; }
  size_t memoryBytes() const noexcept {
    return table_.memoryBytes() + bans_.memoryBytes() + keys_.memoryBytes();
  }

  uint64_t violations(const Fingerprint& fingerprint) noexcept {
    const Offender* offender = find(fingerprint);
    return offender == nullptr ? 0 : offender->violations;
  }

  // Whether addViolation() and beginBan() can work: a new offender needs the key's text.
  bool canAdd(const Key& key) noexcept {
    return key.text != nullptr || find(key.fingerprint) != nullptr;
  }

  // Counts a violation and returns the peer's violations; 0 if there is no memory.
  uint64_t addViolation(const Key& key) noexcept {
    Offender* offender = findOrInsert(key);
    if (offender == nullptr) return 0;
    setViolations(*offender, saturatedSum(offender->violations, 1));
    return offender->violations;
  }

  // Raises the peer's violations to at least `violations`. If `began` is an instant, also begins a
  // ban at that time or extends the peer's ban to it. False if there is no memory.
  bool restore(const Key& key, uint64_t violations, double began) noexcept {
    Offender* offender = findOrInsert(key);
    if (offender == nullptr) return false;
    if (violations > offender->violations) setViolations(*offender, violations);
    // The ban is last, so that a failure means that no ban was added. Callers count bans.
    if (!(began > kNever) || bans_.extend(key.fingerprint, began)) return true;
    return beginBan(*offender, began);
  }

  // Fetches the memory that evictionCostOf() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    table_.prepare(fingerprint);
    bans_.prepare(fingerprint);
  }

  // The cost of evicting a peer that would be fresh after `secondsUntilFresh` if it were no
  // offender, and after `secondsAfterBan` if it has a ban that is over. The next check removes such
  // a ban and its violations, so nothing is lost with them.
  EvictionCost evictionCostOf(const Fingerprint& fingerprint, double secondsUntilFresh,
                              double secondsAfterBan, double idleSeconds, double now,
                              double banDuration) noexcept {
    const Offender* offender = find(fingerprint);
    if (offender == nullptr) return EvictionCost::ofClean(secondsUntilFresh);
    const double began = bans_.beganAt(fingerprint);
    if (began == kNever) return EvictionCost::ofOffender(offender->violations, idleSeconds);
    return elapsed(now, began) < banDuration ? EvictionCost::ofBanned()
                                             : EvictionCost::ofClean(secondsAfterBan);
  }

  // Begins a ban of a peer that has none. False if there is no memory.
  bool beginBan(const Key& key, double now) noexcept {
    Offender* offender = findOrInsert(key);
    return offender != nullptr && beginBan(*offender, now);
  }

  // Removes a ban but keeps the violations.
  void liftBan(const Fingerprint& fingerprint) noexcept {
    bans_.remove(fingerprint);
    Offender* offender = find(fingerprint);
    if (offender != nullptr && offender->violations == 0) remove(*offender);
  }

  // Removes violations and ban.
  void forgive(const Fingerprint& fingerprint) noexcept {
    bans_.remove(fingerprint);
    Offender* offender = find(fingerprint);
    if (offender != nullptr) remove(*offender);
  }

  void clear() noexcept {
    table_.clear();
    bans_.clear();
    keys_.clear();
    top_.clear();
    violators_ = 0;
    totalViolations_.clear();
    unnamed_ = 0;
    longKeyBytes_ = 0;
  }

  // Whether it is certain, without a search, that all of so many peers are banned.
  bool areAllBanned(size_t peers, double now, double banDuration) const noexcept {
    return bans_.size() >= peers && !bans_.mayAnyBeOver(now, banDuration);
  }

  // Visits some bans, as Table::sweep does, and forgives the peers for which expire(ban) returns
  // true.
  template <class Expire>
  bool sweepBans(uint64_t& cursor, Expire&& expire) noexcept {
    return bans_.sweep(cursor, [&](const Ban& ban) {
      if (!expire(ban)) return false;
      Offender* offender = find(ban.fingerprint);
      if (offender != nullptr) remove(*offender);
      return true;
    });
  }

  // Visits some bans, as Table::sample does.
  template <class Visit>
  void sampleBans(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    bans_.sample(fingerprint, most, visit);
  }

  // Writes the offenders with the most violations to `top` and returns their number. The order is
  // by violations, then by the first violation. Only offenders with a stored key are included.
  size_t topViolators(const Offender* (&top)[kTop]) noexcept {
    if (!top_.isComplete(violators_)) recount();
    for (size_t i = 0; i < top_.size(); ++i) top[i] = find(top_[i].fingerprint);
    return top_.size();
  }

  // Calls use(key) for each ban in force with a stored key, in the order in which the bans began.
  // False if there is no memory to sort them.
  template <class Use>
  bool bannedKeys(double now, double banDuration, Use&& use) noexcept {
    const std::unique_ptr<Ban[]> banned(new (std::nothrow) Ban[bans_.size()]);
    if (banned == nullptr) return false;
    Ban* end = banned.get();
    bans_.forEach([&](const Ban& ban) {
      if (elapsed(now, ban.began) < banDuration) *end++ = ban;
    });
    std::sort(banned.get(), end, [](const Ban& a, const Ban& b) { return beganLater(b, a); });
    for (const Ban* ban = banned.get(); ban != end; ++ban) {
      if (end - ban > kPrefetchDistance) table_.prepare(ban[kPrefetchDistance].fingerprint);
      const StoredKey* storedKey = storedKeyOf(*ban);
      if (storedKey != nullptr) use(*storedKey);
    }
    return true;
  }

  // Sets `count` to the number of bans in force. Calls use(key, began) for up to `most` of those
  // with a stored key, the longest remaining time first. False if there is no memory for so many.
  template <class Use>
  bool longestBans(double most, double now, double banDuration, size_t& count, Use&& use) noexcept {
    const size_t capacity =
        most < static_cast<double>(bans_.size()) ? static_cast<size_t>(most) : bans_.size();
    const std::unique_ptr<Ban[]> kept(new (std::nothrow) Ban[capacity]);
    if (kept == nullptr) return false;
    // A heap; its first element is the ban that ends first.
    Ban* const begin = kept.get();
    Ban* end = begin;
    count = 0;
    bans_.forEach([&](const Ban& ban) {
      if (!(elapsed(now, ban.began) < banDuration)) return;
      ++count;
      const bool isFull = end == begin + capacity;
      if (capacity == 0 || (isFull && !beganLater(ban, *begin)) || storedKeyOf(ban) == nullptr) {
        return;
      }
      if (isFull) std::pop_heap(begin, end--, beganLater);
      *end++ = ban;
      std::push_heap(begin, end, beganLater);
    });
    std::sort_heap(begin, end, beganLater);
    for (const Ban* ban = begin; ban != end; ++ban) use(*storedKeyOf(*ban), ban->began);
    return true;
  }

  // The position of an offender in a snapshot: offenders with violations in the order of their
  // first violations, then those with only a ban in the order of their bans.
  struct SnapshotPosition {
    uint64_t order;
    Fingerprint fingerprint;

    bool operator<(const SnapshotPosition& other) const noexcept { return order < other.order; }

    // Added to the order of an offender without violations.
    static constexpr uint64_t kBanOnly = uint64_t{1} << 63;
  };

  // Visits some offenders, as Table::sweep does, and calls visit(position) for each one with a
  // stored key that is not newer than `order`.
  template <class Visit>
  bool sweepPositions(uint64_t& cursor, uint64_t order, Visit&& visit) noexcept {
    return table_.sweep(cursor, [&](const Offender& offender) {
      if (offender.storedKey && !isNewerThan(offender, order)) visit(positionOf(offender));
      return false;
    });
  }

  // The order of the latest first violation or ban. Later ones get a higher order.
  uint64_t lastOrder() const noexcept { return lastOrder_; }

  // Whether the offender's first violation and its ban, if it has them, both came after `order` was
  // the last order. If not, it has been an offender since before then.
  bool isNewerThan(const Offender& offender, uint64_t order) noexcept {
    if (offender.violations > 0 && offender.order <= order) return false;
    const Ban* ban = bans_.find(offender.fingerprint);
    return ban == nullptr || ban->order > order;
  }

  // The offender, if a snapshot lists it by key: the key is stored, and its ban, if it has one, is
  // in force. Sets `began` to the beginning of the ban, or to kNever.
  const Offender* findForSnapshot(const Fingerprint& fingerprint, double now, double banDuration,
                                  double& began) noexcept {
    const Offender* offender = find(fingerprint);
    if (offender == nullptr || !offender->storedKey) return nullptr;
    began = bans_.beganAt(fingerprint);
    return began == kNever || elapsed(now, began) < banDuration ? offender : nullptr;
  }

 private:
  SnapshotPosition positionOf(const Offender& offender) noexcept {
    if (offender.violations > 0) return {offender.order, offender.fingerprint};
    const Ban* ban = bans_.find(offender.fingerprint);
    return {SnapshotPosition::kBanOnly | (ban == nullptr ? 0 : ban->order), offender.fingerprint};
  }

  static TopViolators::Violator violatorOf(const Offender& offender) noexcept {
    return {offender.fingerprint, offender.violations, offender.order};
  }

  void recount() noexcept {
    size_t others = 0;
    top_.clear();
    table_.forEach([&](const Offender& offender) {
      if (offender.violations == 0 || !offender.storedKey) return;
      top_.count(violatorOf(offender), others++);
    });
  }

  // Most limiters have no offender at all, and then there is no look-up.
  Offender* find(const Fingerprint& fingerprint) noexcept {
    return table_.size() == 0 ? nullptr : table_.find(fingerprint);
  }

  // nullptr if the key is not stored.
  const StoredKey* storedKeyOf(const Ban& ban) noexcept {
    const Offender* offender = find(ban.fingerprint);
    return offender != nullptr && offender->storedKey ? &offender->storedKey : nullptr;
  }

  void remove(Offender& offender) noexcept {
    if (offender.violations > 0 && offender.storedKey) {
      --violators_;
      top_.remove(violatorOf(offender));
    }
    totalViolations_.subtract(offender.violations);
    if (offender.storedKey) {
      longKeyBytes_ -= longKeyBytes(offender.storedKey.length);
      keys_.remove(offender.storedKey);
    } else {
      --unnamed_;
    }
    table_.erase(&offender);
  }

  void setViolations(Offender& offender, uint64_t violations) noexcept {
    if (offender.violations == 0) {
      offender.order = ++lastOrder_;
      if (offender.storedKey) ++violators_;
    }
    totalViolations_.add(violations - offender.violations);
    offender.violations = violations;
    if (offender.storedKey) top_.count(violatorOf(offender), violators_ - 1);
  }

  // If there is no memory, removes an offender that would have neither violations nor a ban.
  bool beginBan(Offender& offender, double now) noexcept {
    if (bans_.insert(offender.fingerprint, now, lastOrder_ + 1)) {
      ++lastOrder_;
      return true;
    }
    if (offender.violations == 0) remove(offender);
    return false;
  }

  // The part of the budget for longer keys that a key uses, at two bytes per code unit.
  static size_t longKeyBytes(size_t length) noexcept {
    return length > kShortKey ? length * sizeof(char16_t) : 0;
  }

  Offender* findOrInsert(const Key& key) noexcept {
    Offender* offender = find(key.fingerprint);
    if (offender != nullptr) return offender;
    StoredKey stored = {};
    const size_t bytes = longKeyBytes(key.length);
    const double most = key.length > kLongKey ? maxLongKeyBytes_ / 4 : maxLongKeyBytes_;
    const bool storesKey = bytes == 0 || static_cast<double>(longKeyBytes_ + bytes) <= most;
    if (storesKey && !keys_.add(key.text, key.length, stored)) return nullptr;
    offender = table_.insert(key.fingerprint);
    if (offender == nullptr) {
      keys_.remove(stored);
      return nullptr;
    }
    *offender = {key.fingerprint, 0, 0, stored};
    if (storesKey) {
      longKeyBytes_ += bytes;
    } else {
      ++unnamed_;
    }
    return offender;
  }

  // How many bans ahead bannedKeys() fetches the memory of an offender.
  static constexpr int kPrefetchDistance = 16;

  // In code units; see the top of this file.
  static constexpr size_t kShortKey = 128;
  static constexpr size_t kLongKey = 1024;

  // The budget for keys longer than kShortKey: 64 bytes for each of maxPeers, at least 1 MiB.
  const double maxLongKeyBytes_;
  size_t longKeyBytes_ = 0;

  Table<Offender> table_;
  Bans bans_;
  KeyStore<> keys_;
  TopViolators top_;
  // The number of offenders with violations and a stored key.
  size_t violators_ = 0;
  // The number of offenders without a stored key.
  size_t unnamed_ = 0;
  // The violations of all offenders.
  Sum totalViolations_;
  uint64_t lastOrder_ = 0;
};

}  // namespace relay_limiter

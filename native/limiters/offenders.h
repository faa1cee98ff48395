// Offenders stores the peers with violations or a ban, and the bans of one duration. The limiter
// decides when a ban is over. Counterpart of lib/engine/js/offenders.ts.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "../memory/compiler.h"
#include "arithmetic.h"
#include "bans.h"
#include "eviction-cost.h"
#include "offender-table.h"

namespace relay_limiter {

// `Bans` is NoBans for a limiter without bans.
template <class Storage, class Bans = BasicBans<Storage>>
class BasicOffenders {
 public:
  using Table = BasicOffenderTable<Storage>;

  BasicOffenders(double maxPeers, const Storage& storage) noexcept
      : table_(maxPeers, storage), bans_(storage) {}

  const Table& table() const noexcept { return table_; }
  Table& table() noexcept { return table_; }
  size_t size() const noexcept { return table_.size(); }
  const Bans& bans() const noexcept { return bans_; }
  size_t memoryBytes() const noexcept { return table_.memoryBytes() + bans_.memoryBytes(); }

  // Whether addViolation() and beginBan() can work: a new offender needs the key's text.
  bool canAdd(const Key& key) noexcept {
    return key.text != nullptr || table_.find(key.fingerprint) != nullptr;
  }

  // Counts a violation and returns the peer's violations; 0 if there is no memory.
  uint64_t addViolation(const Key& key) noexcept {
    Offender* offender = table_.findOrInsert(key);
    return offender == nullptr ? 0 : addViolation(*offender);
  }

  // Counts a violation of an offender and returns its violations.
  uint64_t addViolation(Offender& offender) noexcept {
    table_.setViolations(offender, saturatedSum(offender.violations, 1));
    return offender.violations;
  }

  // Raises the peer's violations to at least `violations`. If `began` is an instant, also begins a
  // ban at that time or extends the peer's ban to it. False if there is no memory.
  bool restore(const Key& key, uint64_t violations, double began) noexcept {
    Offender* offender = table_.findOrInsert(key);
    if (offender == nullptr) return false;
    if (violations > offender->violations) table_.setViolations(*offender, violations);
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
    const Offender* offender = table_.find(fingerprint);
    if (offender == nullptr) return EvictionCost::ofClean(secondsUntilFresh);
    const double began = bans_.beganAt(fingerprint);
    if (began == kNever) return EvictionCost::ofOffender(offender->violations, idleSeconds);
    return elapsed(now, began) < banDuration ? EvictionCost::ofBanned()
                                             : EvictionCost::ofClean(secondsAfterBan);
  }

  // Begins a ban of a peer that has none. False if there is no memory.
  bool beginBan(const Key& key, double now) noexcept {
    Offender* offender = table_.findOrInsert(key);
    return offender != nullptr && beginBan(*offender, now);
  }

  // Removes a ban but keeps the violations.
  void liftBan(const Fingerprint& fingerprint) noexcept {
    bans_.remove(fingerprint);
    Offender* offender = table_.find(fingerprint);
    if (offender != nullptr && offender->violations == 0) table_.remove(*offender);
  }

  // Removes violations and ban. The ban is last: a ban without an offender is one that was about to
  // be removed.
  void forgive(const Fingerprint& fingerprint) noexcept {
    Offender* offender = table_.find(fingerprint);
    if (offender != nullptr) table_.remove(*offender);
    bans_.remove(fingerprint);
  }

  void clear() noexcept {
    table_.clear();
    bans_.clear();
  }

  // Makes the tables consistent again after an operation on them was interrupted, and completes a
  // removal. `isPeer` says whether a fingerprint has a record in the limiter's own tables.
  template <class IsPeer>
  void repair(IsPeer&& isPeer) noexcept {
    bans_.repair();
    table_.repair([&](const Offender& offender) {
      if (bans_.find(offender.fingerprint) != nullptr) return true;
      return offender.violations > 0 && isPeer(offender.fingerprint);
    });
    uint64_t cursor = 0;
    bans_.sweep(cursor, [&](const Ban& ban) { return table_.find(ban.fingerprint) == nullptr; });
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
      Offender* offender = table_.find(ban.fingerprint);
      if (offender != nullptr) table_.remove(*offender);
      return true;
    });
  }

  // Visits some bans, as Table::sample does.
  template <class Visit>
  void sampleBans(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    bans_.sample(fingerprint, most, visit);
  }

  // Calls use(ban, key) for each ban in force. The key is empty if it is not stored.
  template <class Use>
  void eachBan(double now, double banDuration, Use&& use) noexcept {
    bans_.forEach([&](const Ban& ban) {
      if (elapsed(now, ban.began) < banDuration) use(ban, storedKeyOf(ban));
    });
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
      const StoredKey storedKey = storedKeyOf(*ban);
      if (storedKey) use(storedKey);
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
      if (capacity == 0 || (isFull && !beganLater(ban, *begin)) || !storedKeyOf(ban)) {
        return;
      }
      if (isFull) std::pop_heap(begin, end--, beganLater);
      *end++ = ban;
      std::push_heap(begin, end, beganLater);
    });
    std::sort_heap(begin, end, beganLater);
    for (const Ban* ban = begin; ban != end; ++ban) use(storedKeyOf(*ban), ban->began);
    return true;
  }

  // Visits some offenders, as Table::sweep does, and calls visit(position) for each one with a
  // stored key that is not newer than `order`.
  template <class Visit>
  bool sweepPositions(uint64_t& cursor, uint64_t order, Visit&& visit) noexcept {
    return table_.sweepNamed(cursor, [&](const Offender& offender) {
      if (!isNewerThan(offender, order)) visit(positionOf(offender));
    });
  }

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
    const Offender* offender = table_.find(fingerprint);
    if (offender == nullptr || !offender->storedKey) return nullptr;
    began = bans_.beganAt(fingerprint);
    return began == kNever || elapsed(now, began) < banDuration ? offender : nullptr;
  }

  // Calls use(offender, began) if a snapshot lists the offender by key.
  template <class Use>
  void visitForSnapshot(const Fingerprint& fingerprint, double now, double banDuration,
                        Use&& use) noexcept {
    double began;
    const Offender* offender = findForSnapshot(fingerprint, now, banDuration, began);
    if (offender != nullptr) use(*offender, began);
  }

 private:
  SnapshotPosition positionOf(const Offender& offender) noexcept {
    if (offender.violations > 0) return {offender.order, offender.fingerprint};
    const Ban* ban = bans_.find(offender.fingerprint);
    return {SnapshotPosition::kBanOnly | (ban == nullptr ? 0 : ban->order), offender.fingerprint};
  }

  // Empty if the key is not stored.
  StoredKey storedKeyOf(const Ban& ban) noexcept {
    const Offender* offender = table_.find(ban.fingerprint);
    return offender == nullptr ? StoredKey{} : table_.keyOf(*offender);
  }

  // If there is no memory, removes an offender that would have neither violations nor a ban.
  bool beginBan(Offender& offender, double now) noexcept {
    if (bans_.insert(offender.fingerprint, now, table_.lastOrder() + 1)) {
      table_.nextOrder();
      return true;
    }
    if (offender.violations == 0) table_.remove(offender);
    return false;
  }

  // How many bans ahead bannedKeys() fetches the memory of an offender.
  static constexpr int kPrefetchDistance = 16;

  Table table_;
  Bans bans_;
};

using Offenders = BasicOffenders<PrivateStorage>;

}  // namespace relay_limiter

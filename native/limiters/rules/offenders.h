// RuleOffenders stores the peers of a scope with violations or a ban: what OffenderTable stores of
// them, and in scopes with bans the level that leads to a ban, the ban level, and the end of the
// last ban. A peer with such a punishment is always in the OffenderTable as well. Counterpart of
// lib/engine/js/rules/offenders.ts.
//
// In a shared file that is damaged, an offender or a punishment that was just added may not be
// found: then nothing is counted.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "../eviction-cost.h"
#include "../offender-table.h"
#include "plan.h"

namespace relay_limiter {

struct alignas(64) Punishment {
  Fingerprint fingerprint;
  // As of `levelAt`.
  double level;
  double levelAt;
  // As of the end of the last ban.
  double banLevel;
  // The end of the last ban; kNever without one.
  double banEnd;
  // Unique; a ban that began later has a higher one. 0 without a ban.
  uint64_t order;
  // 1 if the ban is one of BanCounts::counted, else 0. No bool: a damaged file may have any number.
  uint32_t isCounted;
  // Of the fingerprint and the last ban; only in a shared file. A machine that ends in the middle
  // of a write to a disk may leave a part of a record.
  uint32_t checksum;

  void seal() noexcept { checksum = checksumNow(); }
  bool isIntact() const noexcept { return checksum == checksumNow(); }

 private:
  uint32_t checksumNow() const noexcept {
    uint64_t end;
    std::memcpy(&end, &banEnd, sizeof end);
    uint64_t hash = 0xcbf29ce484222325;
    for (const uint64_t word : {fingerprint.low, fingerprint.high, end, order}) {
      hash = (hash ^ word) * 0x100000001b3;
      hash ^= hash >> 32;
    }
    return static_cast<uint32_t>(hash);
  }
};

// The latest end of all bans of a limiter.
class OwnLatestEnd {
 public:
  double value() const noexcept { return value_; }
  void raise(double end) noexcept { value_ = std::max(value_, end); }
  void clear() noexcept { value_ = kNever; }

 private:
  double value_ = kNever;
};

// `Storages` is PrivateRuleStorages (storage.h) or the one of shared files.
template <class Storages>
class BasicRuleOffenders {
  using Storage = typename Storages::Storage;
  using LatestEnd = typename Storages::LatestEnd;

 public:
  using Table = BasicOffenderTable<Storage>;

  // `latestEnd` is at least the end of each ban of the limiter, and outlives this.
  BasicRuleOffenders(double maxPeers, LatestEnd& latestEnd, const Storage& storage) noexcept
      : table_(maxPeers, storage),
        punishments_(storage.template table<Punishment>()),
        latestEnd_(latestEnd),
        counts_(storage.template value<BanCounts>()) {}

  const Table& table() const noexcept { return table_; }
  Table& table() noexcept { return table_; }
  size_t size() const noexcept { return table_.size(); }
  size_t memoryBytes() const noexcept { return table_.memoryBytes() + punishments_.memoryBytes(); }

  // Whether reserve() can work: a new offender needs the key's text.
  bool canAdd(const Key& key) const noexcept {
    return key.text != nullptr || table_.find(key.fingerprint) != nullptr;
  }

  // Fetches the memory that evictionCostOf() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    table_.prepare(fingerprint);
    punishments_.prepare(fingerprint);
  }

  // The remaining seconds of the peer's ban; 0 without one.
  double banSecondsLeft(const Fingerprint& fingerprint, double now) const noexcept {
    if (!(now < latestEnd_.value())) return 0;
    const Punishment* punishment = find(fingerprint);
    return punishment != nullptr && now < punishment->banEnd ? punishment->banEnd - now : 0.0;
  }

  // Whether it is certain, without a search, that so many peers, all that have a record, are
  // banned.
  bool areAllBanned(size_t peers, double now) const noexcept {
    return counts_->counted >= peers && now < counts_->earliestEnd;
  }

  // What reserve() has added.
  struct Reserved {
    bool offender = false;
    bool punishment = false;
  };

  // Makes sure that the peer is an offender and, if `punishes`, has a punishment. False if there is
  // no memory; then nothing has changed.
  bool reserve(const Key& key, bool punishes, Reserved& reserved) noexcept {
    const size_t before = table_.size();
    if (table_.findOrInsert(key) == nullptr) return false;
    reserved.offender = table_.size() > before;
    if (!punishes || find(key.fingerprint) != nullptr) return true;
    Punishment* punishment = punishments_.insert(key.fingerprint);
    if (punishment == nullptr) {
      release(key.fingerprint, reserved);
      return false;
    }
    *punishment = {key.fingerprint, 0, kNever, 0, kNever, 0, 0, 0};
    reserved.punishment = true;
    return true;
  }

  // Takes back what reserve() has added.
  void release(const Fingerprint& fingerprint, const Reserved& reserved) noexcept {
    Punishment* const punishment = reserved.punishment ? find(fingerprint) : nullptr;
    if (punishment != nullptr) punishments_.erase(punishment);
    if (reserved.offender) removeOffender(fingerprint);
  }

  // Counts a violation of a peer that reserve() was called for, and returns its violations.
  uint64_t addViolation(const Fingerprint& fingerprint) noexcept {
    Offender* const offender = table_.find(fingerprint);
    if (offender == nullptr) return 0;
    table_.setViolations(*offender, saturatedSum(offender->violations, 1));
    return offender->violations;
  }

  // Raises the peer's violations to at least `violations`.
  void raiseViolations(const Fingerprint& fingerprint, uint64_t violations) noexcept {
    Offender* const offender = table_.find(fingerprint);
    if (offender == nullptr || violations <= offender->violations) return;
    table_.setViolations(*offender, violations);
  }

  // nullptr if the peer has none. Most scopes have no punishment at all, and then there is no
  // look-up.
  Punishment* find(const Fingerprint& fingerprint) const noexcept {
    return punishments_.size() == 0 ? nullptr : punishments_.find(fingerprint);
  }

  // Makes the ban of a peer with a punishment end at `end`, which is later than it ended before.
  void setBanEnd(Punishment& punishment, double end, double now) noexcept {
    if (!(now < punishment.banEnd)) punishment.order = table_.nextOrder();
    // Without it nobody looks for the ban.
    latestEnd_.raise(end);
    lowerEarliestEnd(end);
    keepOrderOfWrites();
    punishment.banEnd = end;
    if constexpr (!Storages::kIsPrivate) punishment.seal();
    if (punishment.isCounted == 0) ++counts_->counted;
    punishment.isCounted = 1;
  }

  // Counts a violation for the ban of a peer with a punishment. Returns the length of the ban that
  // begins; 0 if none does.
  double punish(Punishment& punishment, const BanPolicy& policy, double random,
                double now) noexcept {
    const double level = levelOf(punishment, policy, now) + 1;
    if (!(level >= policy.violations)) {
      setLevel(punishment, level, now);
      return 0;
    }
    const double banLevel =
        policy.banLevelAfter(punishment.banLevel, elapsed(now, punishment.banEnd));
    const double seconds = policy.length(banLevel, random);
    // If the process ends in between, the next ban is longer, or the next violation leads to one.
    punishment.banLevel = banLevel + 1;
    keepOrderOfWrites();
    setBanEnd(punishment, now + seconds, now);
    keepOrderOfWrites();
    setLevel(punishment, 0, now);
    return seconds;
  }

  // Raises the levels of a peer with a punishment. `level` is as of now.
  static void raiseLevels(Punishment& punishment, double level, double banLevel,
                          const BanPolicy& policy, double now) noexcept {
    setLevel(punishment, std::max(levelOf(punishment, policy, now), level), now);
    punishment.banLevel = std::max(punishment.banLevel, banLevel);
  }

  // The level that leads to bans, as of now.
  static double levelOf(const Punishment& punishment, const BanPolicy& policy,
                        double now) noexcept {
    return policy.levelAfter(punishment.level, elapsed(now, punishment.levelAt));
  }

  // Ends a ban in force; false if there is none.
  bool endBan(const Fingerprint& fingerprint, double now) noexcept {
    Punishment* punishment = find(fingerprint);
    if (punishment == nullptr || !(now < punishment->banEnd)) return false;
    punishment->banEnd = now;
    lowerEarliestEnd(now);
    return true;
  }

  // Removes violations and punishment.
  void forgive(const Fingerprint& fingerprint) noexcept {
    Punishment* punishment = find(fingerprint);
    if (punishment != nullptr) {
      if (punishment->isCounted != 0) discount();
      punishments_.erase(punishment);
    }
    removeOffender(fingerprint);
  }

  // Visits some punishments, as Table::sweep does, and stops counting bans that are over.
  bool sweepBans(uint64_t& cursor, double now) noexcept {
    if (cursor == 0) counts_->earliestSwept = kInfinity;
    const bool hasMore = punishments_.sweep(cursor, [&](Punishment& punishment) {
      if (punishment.isCounted == 0) return false;
      punishment.isCounted = now < punishment.banEnd ? 1 : 0;
      if (punishment.isCounted != 0) {
        counts_->earliestSwept = std::min(counts_->earliestSwept, punishment.banEnd);
      } else {
        discount();
      }
      return false;
    });
    if (!hasMore) counts_->earliestEnd = counts_->earliestSwept;
    return hasMore;
  }

  // Whether a ban is in force, a level is left, or a ban level is left that will be forgotten.
  bool isPunished(const Fingerprint& fingerprint, const BanPolicy& policy,
                  double now) const noexcept {
    const Punishment* punishment = find(fingerprint);
    if (punishment == nullptr) return false;
    if (now < punishment->banEnd) return true;
    if (!policy.exists) return false;
    if (levelOf(*punishment, policy, now) > 0) return true;
    return policy.forgetAfterSeconds < kInfinity &&
           policy.banLevelAfter(punishment->banLevel, elapsed(now, punishment->banEnd)) > 0;
  }

  // The cost of evicting a peer that would be fresh after `secondsUntilFresh` if it were no
  // offender.
  EvictionCost evictionCostOf(const Fingerprint& fingerprint, double secondsUntilFresh,
                              double idleSeconds, double now) const noexcept {
    const Offender* offender = table_.find(fingerprint);
    if (offender == nullptr) return EvictionCost::ofClean(secondsUntilFresh);
    if (banSecondsLeft(fingerprint, now) > 0) return EvictionCost::ofBanned();
    return offender->violations == 0 ? EvictionCost::ofClean(secondsUntilFresh)
                                     : EvictionCost::ofOffender(offender->violations, idleSeconds);
  }

  // Calls use(punishment, key) for each ban in force. The key is empty if it is not stored.
  template <class Use>
  void eachBan(double now, Use&& use) noexcept {
    punishments_.forEach([&](const Punishment& punishment) {
      if (now < punishment.banEnd) use(punishment, storedKeyOf(punishment));
    });
  }

  // Sets `count` to the number of bans in force. Calls use(key, secondsLeft) for up to `most` of
  // those with a stored key: the longest remaining time first, then in the order of the keys. False
  // if there is no memory for so many.
  template <class Use>
  bool longestBans(double most, double now, size_t& count, Use&& use) noexcept {
    struct Ban {
      double end;
      StoredKey key;
    };
    const auto precedes = [](const Ban& a, const Ban& b) {
      return a.end != b.end ? a.end > b.end : a.key < b.key;
    };
    const size_t capacity = most < static_cast<double>(punishments_.size())
                                ? static_cast<size_t>(most)
                                : punishments_.size();
    const std::unique_ptr<Ban[]> kept(new (std::nothrow) Ban[capacity]);
    if (kept == nullptr) return false;
    // A heap; its first element is the last of those kept.
    Ban* const begin = kept.get();
    Ban* end = begin;
    count = 0;
    punishments_.forEach([&](const Punishment& punishment) {
      if (!(now < punishment.banEnd)) return;
      ++count;
      const bool isFull = end == begin + capacity;
      if (capacity == 0 || (isFull && punishment.banEnd < begin->end)) return;
      const Ban ban = {punishment.banEnd, storedKeyOf(punishment)};
      if (!ban.key || (isFull && !precedes(ban, *begin))) return;
      if (isFull) std::pop_heap(begin, end--, precedes);
      *end++ = ban;
      std::push_heap(begin, end, precedes);
    });
    std::sort_heap(begin, end, precedes);
    for (const Ban* ban = begin; ban != end; ++ban) use(ban->key, ban->end - now);
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

  // Whether the offender's first violation and its last ban, if it has them, both came after
  // `order` was the last order. If not, it has been an offender since before then.
  bool isNewerThan(const Offender& offender, uint64_t order) const noexcept {
    if (offender.violations > 0 && offender.order <= order) return false;
    const uint64_t banOrder = banOrderOf(offender);
    return banOrder == 0 || banOrder > order;
  }

  // The offender, if a snapshot lists it by key: the key is stored, and it has violations or a ban
  // in force.
  const Offender* findForSnapshot(const Fingerprint& fingerprint, double now) const noexcept {
    const Offender* offender = table_.find(fingerprint);
    if (offender == nullptr || !offender->storedKey) return nullptr;
    const bool isListed = offender->violations > 0 || banSecondsLeft(fingerprint, now) > 0;
    return isListed ? offender : nullptr;
  }

  void clear() noexcept {
    table_.clear();
    punishments_.clear();
    *counts_ = BanCounts();
  }

  // Makes the tables consistent again after an operation on them was interrupted, and completes a
  // removal. `isPeer` says whether a fingerprint has a record.
  template <class IsPeer>
  void repair(IsPeer&& isPeer) noexcept {
    punishments_.repair();
    table_.repair([&](const Offender& offender) {
      return isPeer(offender.fingerprint) &&
             (offender.violations > 0 || find(offender.fingerprint) != nullptr);
    });
    uint64_t cursor = 0;
    punishments_.sweep(cursor, [&](const Punishment& punishment) {
      return table_.find(punishment.fingerprint) == nullptr;
    });
    *counts_ = BanCounts();
    punishments_.forEach([&](Punishment& punishment) {
      punishment.isCounted = punishment.banEnd > kNever ? 1 : 0;
      if (punishment.isCounted == 0) return;
      ++counts_->counted;
      lowerEarliestEnd(punishment.banEnd);
    });
  }

 private:
  struct BanCounts {
    // The number of punishments with a ban, in force or over. A sweep stops counting those that are
    // over.
    size_t counted = 0;
    // No counted ban ends before this instant. It is exact after a sweep.
    double earliestEnd = kInfinity;
    // The earliest end among the bans that the current sweep has found and those that began after
    // it did.
    double earliestSwept = kInfinity;
  };

  void lowerEarliestEnd(double end) noexcept {
    counts_->earliestEnd = std::min(counts_->earliestEnd, end);
    counts_->earliestSwept = std::min(counts_->earliestSwept, end);
  }

  void removeOffender(const Fingerprint& fingerprint) noexcept {
    Offender* const offender = table_.find(fingerprint);
    if (offender != nullptr) table_.remove(*offender);
  }

  // Stops counting a ban.
  void discount() noexcept {
    if (--counts_->counted == 0) counts_->earliestEnd = kInfinity;
  }

  // Sets the level as of `now`. In the other order the time before would drain it twice.
  static void setLevel(Punishment& punishment, double level, double now) noexcept {
    punishment.levelAt = std::max(punishment.levelAt, now);
    keepOrderOfWrites();
    punishment.level = level;
  }

  StoredKey storedKeyOf(const Punishment& punishment) const noexcept {
    const Offender* offender = table_.find(punishment.fingerprint);
    return offender == nullptr ? StoredKey{} : table_.keyOf(*offender);
  }

  uint64_t banOrderOf(const Offender& offender) const noexcept {
    const Punishment* punishment = find(offender.fingerprint);
    return punishment == nullptr ? 0 : punishment->order;
  }

  SnapshotPosition positionOf(const Offender& offender) const noexcept {
    if (offender.violations > 0) return {offender.order, offender.fingerprint};
    return {SnapshotPosition::kBanOnly | banOrderOf(offender), offender.fingerprint};
  }

  Table table_;
  typename Storage::template Table<Punishment> punishments_;
  LatestEnd& latestEnd_;
  typename Storage::template Stored<BanCounts> counts_;
};

}  // namespace relay_limiter

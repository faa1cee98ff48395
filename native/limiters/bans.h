// Bans stores when each ban began, whether it is in force or over, and the order in which bans
// began. How long a ban lasts is up to the limiter.
#pragma once

#include <algorithm>

#include "../memory/compiler.h"
#include "arithmetic.h"
#include "storage.h"

namespace relay_limiter {

struct alignas(32) Ban {
  Fingerprint fingerprint;
  // In monotonic seconds.
  double began;
  // Unique; a ban that began later has a higher one. Breaks ties between equal instants.
  uint64_t order;
};

inline bool beganLater(const Ban& a, const Ban& b) noexcept {
  return a.began != b.began ? a.began > b.began : a.order > b.order;
}

template <class Storage>
class BasicBans {
 public:
  explicit BasicBans(const Storage& storage) noexcept
      : table_(storage.template table<Ban>()), times_(storage.template value<Times>()) {}

  size_t size() const noexcept { return table_.size(); }
  bool isEmpty() const noexcept { return table_.size() == 0; }
  size_t memoryBytes() const noexcept { return table_.memoryBytes(); }

  // nullptr if the peer has no ban. Most limiters have no ban at all, and then there is no look-up.
  const Ban* find(const Fingerprint& fingerprint) const noexcept { return findBan(fingerprint); }

  // When the peer's ban began; kNever if it has none.
  double beganAt(const Fingerprint& fingerprint) const noexcept {
    const Ban* ban = findBan(fingerprint);
    return ban == nullptr ? kNever : ban->began;
  }

  // The seconds that the peer's ban has left; 0 if it has none, or one that is over.
  double secondsLeft(const Fingerprint& fingerprint, double now,
                     double banDuration) const noexcept {
    return relay_limiter::secondsLeft(banDuration, elapsed(now, beganAt(fingerprint)));
  }

  // Fetches the memory that find() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    table_.prepare(fingerprint);
  }

  // False only if no ban can be over. True does not mean that one is.
  bool mayAnyBeOver(double now, double banDuration) const noexcept {
    return !isEmpty() && elapsed(now, times_->earliest) >= banDuration;
  }

  // Adds a ban for a peer without one. False if there is no memory; then nothing has changed.
  bool insert(const Fingerprint& fingerprint, double began, uint64_t order) noexcept {
    Ban* ban = table_.insert(fingerprint);
    if (ban == nullptr) return false;
    *ban = {fingerprint, began, order};
    countTime(began);
    return true;
  }

  // Makes a ban end later, if `began` is later than its beginning. False if the peer has no ban.
  bool extend(const Fingerprint& fingerprint, double began) noexcept {
    Ban* ban = findBan(fingerprint);
    if (ban == nullptr) return false;
    ban->began = std::max(ban->began, began);
    return true;
  }

  void remove(const Fingerprint& fingerprint) noexcept {
    Ban* ban = findBan(fingerprint);
    if (ban == nullptr) return;
    table_.erase(ban);
    if (isEmpty()) times_->earliest = kInfinity;
  }

  // Visits some bans, as Table::sweep does, and erases those for which expire(ban) returns true.
  template <class Expire>
  bool sweep(uint64_t& cursor, Expire&& expire) noexcept {
    if (cursor == 0) times_->earliestSwept = kInfinity;
    const bool hasMore = table_.sweep(cursor, [&](const Ban& ban) {
      if (expire(ban)) return true;
      times_->earliestSwept = std::min(times_->earliestSwept, ban.began);
      return false;
    });
    if (!hasMore) times_->earliest = times_->earliestSwept;
    return hasMore;
  }

  // Visits some bans, as Table::sample does.
  template <class Visit>
  void sample(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    table_.sample(fingerprint, most, visit);
  }

  template <class Visit>
  void forEach(Visit&& visit) noexcept {
    table_.forEach(visit);
  }

  void clear() noexcept {
    table_.clear();
    *times_ = Times();
  }

  // Makes the table consistent again after an operation on it was interrupted.
  void repair() noexcept {
    table_.repair();
    *times_ = Times();
    table_.forEach([&](const Ban& ban) { countTime(ban.began); });
  }

 private:
  struct Times {
    // No ban began before this instant. It is exact after a sweep; a removed ban may leave it too
    // early.
    double earliest = kInfinity;
    // The earliest beginning among the bans that the current sweep has kept and those that began
    // after the sweep did.
    double earliestSwept = kInfinity;
  };

  void countTime(double began) noexcept {
    times_->earliest = std::min(times_->earliest, began);
    times_->earliestSwept = std::min(times_->earliestSwept, began);
  }

  Ban* findBan(const Fingerprint& fingerprint) const noexcept {
    return isEmpty() ? nullptr : table_.find(fingerprint);
  }

  typename Storage::template Table<Ban> table_;
  typename Storage::template Stored<Times> times_;
};

// In place of Bans, for a limiter that bans no peer: it has no memory, and a shared file no page
// for it.
class NoBans {
 public:
  template <class Storage>
  explicit NoBans(const Storage&) noexcept {}

  static constexpr size_t size() noexcept { return 0; }
  static constexpr bool isEmpty() noexcept { return true; }
  static constexpr size_t memoryBytes() noexcept { return 0; }
  static constexpr const Ban* find(const Fingerprint&) noexcept { return nullptr; }
  static constexpr double beganAt(const Fingerprint&) noexcept { return kNever; }
  static constexpr void prepare(const Fingerprint&) noexcept {}
  static constexpr bool mayAnyBeOver(double, double) noexcept { return false; }
  static constexpr bool insert(const Fingerprint&, double, uint64_t) noexcept { return false; }
  static constexpr bool extend(const Fingerprint&, double) noexcept { return false; }
  static constexpr void remove(const Fingerprint&) noexcept {}
  template <class Expire>
  static constexpr bool sweep(uint64_t&, Expire&&) noexcept {
    return false;
  }
  template <class Visit>
  static constexpr void forEach(Visit&&) noexcept {}
  static constexpr void clear() noexcept {}
  static constexpr void repair() noexcept {}
};

}  // namespace relay_limiter

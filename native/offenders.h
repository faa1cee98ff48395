// Offenders: the peers with violations or a ban, their keys and their order. Twin of
// lib/engine/js/offenders.ts. Knows no limiter; when a ban is over is for its user to say.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "arithmetic.h"
#include "eviction.h"
#include "names.h"
#include "table.h"
#include "top-violators.h"

namespace relay_limiter {

struct alignas(64) Offender {
  Fingerprint fingerprint;
  uint64_t violations;
  // Place in the order of first violations.
  uint64_t order;
  // The key, in the store of names: offenders are named.
  Name name;
};

struct alignas(32) Ban {
  Fingerprint fingerprint;
  double began;
  // Place in the order of bans.
  uint64_t order;
};

class Offenders {
 public:
  static constexpr size_t kTop = TopViolators::kNamed;

  // Over or not.
  size_t bans() const noexcept { return bans_.size(); }
  bool hasBans() const noexcept { return bans_.size() > 0; }
  uint64_t totalViolations() const noexcept { return total_; }
  size_t memoryBytes() const noexcept {
    return table_.memoryBytes() + bans_.memoryBytes() + names_.memoryBytes();
  }

  uint64_t violations(const Fingerprint& print) noexcept {
    const Offender* offender = find(print);
    return offender == nullptr ? 0 : offender->violations;
  }

  // Whether an offence of this peer can be counted: it has a name here, or the key brings one.
  bool canName(const Key& key) noexcept {
    return key.text != nullptr || find(key.fingerprint) != nullptr;
  }

  // Counts one more, and returns how many it makes; 0 where there is no memory.
  uint64_t addViolation(const Key& key) noexcept {
    Offender* offender = findOrInsert(key);
    if (offender == nullptr) return 0;
    if (offender->violations == 0) {
      offender->order = ++lastOrder_;
      ++violators_;
    }
    ++total_;
    ++offender->violations;
    top_.count(violatorOf(*offender), violators_ - 1);
    return offender->violations;
  }

  // When the peer's ban began, over or not; kNever without one.
  double bannedAt(const Fingerprint& print) noexcept {
    const Ban* ban = hasBans() ? bans_.find(print) : nullptr;
    return ban == nullptr ? kNever : ban->began;
  }

  // What is lost with the offences of a peer who without them would be `seconds` from a fresh one,
  // and has been idle for so long. A ban that is over protects nobody.
  Loss lossOf(const Fingerprint& print, double seconds, double idle, double now,
              double banDuration) noexcept {
    const Offender* offender = find(print);
    if (offender == nullptr) return Loss::ofUnpunished(seconds);
    if (elapsed(now, bannedAt(print)) < banDuration) return Loss::ofBanned();
    return Loss::ofPunished(offender->violations, idle);
  }

  // For a peer without a ban. False where there is no memory.
  bool beginBan(const Key& key, double now) noexcept {
    Offender* offender = findOrInsert(key);
    if (offender == nullptr) return false;
    Ban* ban = bans_.insert(key.fingerprint);
    if (ban != nullptr) {
      *ban = {key.fingerprint, now, ++lastOrder_};
    } else if (offender->violations == 0) {
      remove(*offender);
    }
    return ban != nullptr;
  }

  // Lifts a ban; violations stay.
  void liftBan(const Fingerprint& print) noexcept {
    removeBan(print);
    Offender* offender = find(print);
    if (offender != nullptr && offender->violations == 0) remove(*offender);
  }

  // Forgets violations and ban.
  void forgive(const Fingerprint& print) noexcept {
    removeBan(print);
    Offender* offender = find(print);
    if (offender != nullptr) remove(*offender);
  }

  void clear() noexcept {
    table_.clear();
    bans_.clear();
    names_.clear();
    top_.clear();
    violators_ = 0;
    total_ = 0;
  }

  // Visits some bans, as Table::sweep does; peers for which over(ban) is true are forgiven.
  template <class Over>
  bool sweepBans(uint64_t& cursor, Over&& over) noexcept {
    return bans_.sweep(cursor, [&](const Ban& ban) {
      if (!over(ban)) return false;
      Offender* offender = find(ban.fingerprint);
      if (offender != nullptr) remove(*offender);
      return true;
    });
  }

  // Visits some bans, as Table::sample does.
  template <class Visit>
  void sampleBans(const Fingerprint& print, unsigned most, Visit&& visit) noexcept {
    bans_.sample(print, most, visit);
  }

  // Writes the worst to `top`, most violations first, ties by who offended first; returns how many.
  size_t topViolators(const Offender* (&top)[kTop]) noexcept {
    if (!top_.holds(violators_)) recount();
    for (size_t i = 0; i < top_.size(); ++i) top[i] = find(top_[i].fingerprint);
    return top_.size();
  }

  // Calls use(name) for each ban that is not over, in the order they began; false where
  // there is no memory to put them in order.
  template <class Use>
  bool bannedKeys(double now, double banDuration, Use&& use) noexcept {
    const std::unique_ptr<Ban[]> banned(new (std::nothrow) Ban[bans_.size()]);
    if (banned == nullptr) return false;
    Ban* end = banned.get();
    bans_.forEach([&](const Ban& ban) {
      if (elapsed(now, ban.began) < banDuration) *end++ = ban;
    });
    std::sort(banned.get(), end, [](const Ban& a, const Ban& b) {
      return a.began != b.began ? a.began < b.began : a.order < b.order;
    });
    for (const Ban* ban = banned.get(); ban != end; ++ban) {
      const Offender* offender = find(ban->fingerprint);
      if (offender != nullptr) use(offender->name);
    }
    return true;
  }

 private:
  static TopViolators::Violator violatorOf(const Offender& offender) noexcept {
    return {offender.fingerprint, offender.violations, offender.order};
  }

  void recount() noexcept {
    size_t others = 0;
    top_.clear();
    table_.forEach([&](const Offender& offender) {
      if (offender.violations > 0) top_.count(violatorOf(offender), others++);
    });
  }

  // Most limiters have no offender at all: then there is nothing to look up.
  Offender* find(const Fingerprint& print) noexcept {
    return table_.size() == 0 ? nullptr : table_.find(print);
  }

  void removeBan(const Fingerprint& print) noexcept {
    Ban* ban = hasBans() ? bans_.find(print) : nullptr;
    if (ban != nullptr) bans_.erase(ban);
  }

  void remove(Offender& offender) noexcept {
    if (offender.violations > 0) {
      --violators_;
      top_.forget(violatorOf(offender));
    }
    total_ -= offender.violations;
    names_.remove(offender.name);
    table_.erase(&offender);
  }

  Offender* findOrInsert(const Key& key) noexcept {
    Offender* offender = find(key.fingerprint);
    if (offender != nullptr) return offender;
    Name name;
    if (!names_.add(key.text, key.length, name)) return nullptr;
    offender = table_.insert(key.fingerprint);
    if (offender == nullptr) {
      names_.remove(name);
      return nullptr;
    }
    *offender = {key.fingerprint, 0, 0, name};
    return offender;
  }

  Table<Offender> table_;
  Table<Ban> bans_;
  Names<> names_;
  TopViolators top_;
  // Offenders with violations, and all their violations.
  size_t violators_ = 0;
  uint64_t total_ = 0;
  uint64_t lastOrder_ = 0;
};

}  // namespace relay_limiter

// Offenders: the peers with violations or a ban, their keys and their order. Twin of
// lib/engine/js/offenders.ts. Knows no limiter; when a ban is over is for its user to say.
//
// The text of keys is bounded. A key of kShort code units is always kept, one of up to kLong while
// all that are longer than kShort stay within the room for them, and one beyond that while they
// stay within a quarter of it: few huge ones leave room for others. Else its peer is punished
// without a name. Which it is, is decided as it becomes an offender.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "../memory/compiler.h"
#include "../memory/key-store.h"
#include "../table/table.h"
#include "arithmetic.h"
#include "counts.h"
#include "eviction.h"
#include "top-violators.h"

namespace relay_limiter {

struct alignas(64) Offender {
  Fingerprint fingerprint;
  uint64_t violations;
  // Place in the order of first violations.
  uint64_t order;
  // The key, in the store of names; none where there was no room for it.
  StoredKey storedKey;
};

struct alignas(32) Ban {
  Fingerprint fingerprint;
  double began;
  // Place in the order of bans.
  uint64_t order;
};

class Offenders {
 public:
  static constexpr size_t kTop = TopViolators::kListed;

  // For a limiter of so many peers.
  explicit Offenders(double maxPeers) noexcept
      : longBytesMost_(std::max(double{1 << 20}, maxPeers * 64)) {}

  size_t size() const noexcept { return table_.size(); }
  // Over or not.
  size_t bans() const noexcept { return bans_.size(); }
  bool hasBans() const noexcept { return bans_.size() > 0; }
  uint64_t totalViolations() const noexcept { return total_.value(); }
  size_t unnamed() const noexcept { return unnamed_; }
  size_t memoryBytes() const noexcept {
    return table_.memoryBytes() + bans_.memoryBytes() + keys_.memoryBytes();
  }

  uint64_t violations(const Fingerprint& fingerprint) noexcept {
    const Offender* offender = find(fingerprint);
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
    setViolations(*offender, saturatedSum(offender->violations, 1));
    return offender->violations;
  }

  // Makes violations at least as many as those, and where `began` is an instant puts a ban of then
  // in the place of none or of an earlier one. False where there is no memory.
  bool restore(const Key& key, uint64_t violations, double began) noexcept {
    Offender* offender = findOrInsert(key);
    if (offender == nullptr) return false;
    if (violations > offender->violations) setViolations(*offender, violations);
    // Last: whoever counts bans hears of none where memory runs out.
    return !(began > kNever) || restoreBan(*offender, began);
  }

  // When the peer's ban began, over or not; kNever without one.
  double bannedAt(const Fingerprint& fingerprint) noexcept {
    const Ban* ban = hasBans() ? bans_.find(fingerprint) : nullptr;
    return ban == nullptr ? kNever : ban->began;
  }

  // Whether anybody is one, and so lossOf() may have to look.
  bool areThere() const noexcept { return table_.size() > 0; }

  // Asks for the memory that lossOf() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    table_.prepare(fingerprint);
    bans_.prepare(fingerprint);
  }

  // What is lost with a peer who without its offences would be `seconds` from a fresh one, after a
  // ban that is over `afterBan`, and has been idle for so long. Such a ban goes with the next
  // check, its violations with it: neither is anything to lose.
  EvictionCost evictionCostOf(const Fingerprint& fingerprint, double seconds, double afterBan,
                              double idle, double now, double banDuration) noexcept {
    const Offender* offender = find(fingerprint);
    if (offender == nullptr) return EvictionCost::ofUnpunished(seconds);
    const double began = bannedAt(fingerprint);
    if (began == kNever) return EvictionCost::ofPunished(offender->violations, idle);
    return elapsed(now, began) < banDuration ? EvictionCost::ofBanned()
                                             : EvictionCost::ofUnpunished(afterBan);
  }

  // For a peer without a ban. False where there is no memory.
  bool beginBan(const Key& key, double now) noexcept {
    Offender* offender = findOrInsert(key);
    return offender != nullptr && beginBan(*offender, now);
  }

  // Lifts a ban; violations stay.
  void liftBan(const Fingerprint& fingerprint) noexcept {
    removeBan(fingerprint);
    Offender* offender = find(fingerprint);
    if (offender != nullptr && offender->violations == 0) remove(*offender);
  }

  // Forgets violations and ban.
  void forgive(const Fingerprint& fingerprint) noexcept {
    removeBan(fingerprint);
    Offender* offender = find(fingerprint);
    if (offender != nullptr) remove(*offender);
  }

  void clear() noexcept {
    table_.clear();
    bans_.clear();
    keys_.clear();
    top_.clear();
    earliest_ = kInfinity;
    violators_ = 0;
    total_.clear();
    unnamed_ = 0;
    longBytes_ = 0;
  }

  // Whether a peer that is not banned may be among so many: where all have a ban and none of the
  // bans can be over, there is none.
  bool mayLeave(size_t peers, double now, double banDuration) const noexcept {
    return bans_.size() < peers || areBansOver(now, banDuration);
  }

  // Whether a ban may be over.
  bool areBansOver(double now, double banDuration) const noexcept {
    return hasBans() && elapsed(now, earliest_) >= banDuration;
  }

  // Visits some bans, as Table::sweep does; peers for which over(ban) is true are forgiven.
  template <class Over>
  bool sweepBans(uint64_t& cursor, Over&& over) noexcept {
    if (cursor == 0) earliestSwept_ = kInfinity;
    const bool goesOn = bans_.sweep(cursor, [&](const Ban& ban) {
      if (!over(ban)) {
        earliestSwept_ = std::min(earliestSwept_, ban.began);
        return false;
      }
      Offender* offender = find(ban.fingerprint);
      if (offender != nullptr) remove(*offender);
      return true;
    });
    if (!goesOn) earliest_ = earliestSwept_;
    return goesOn;
  }

  // Visits some bans, as Table::sample does.
  template <class Visit>
  void sampleBans(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    bans_.sample(fingerprint, most, visit);
  }

  // Writes the worst to `top`, most violations first, ties by who offended first; returns how many.
  size_t topViolators(const Offender* (&top)[kTop]) noexcept {
    if (!top_.isComplete(violators_)) recount();
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
    std::sort(banned.get(), end, [](const Ban& a, const Ban& b) { return isLater(b, a); });
    for (const Ban* ban = banned.get(); ban != end; ++ban) {
      if (end - ban > kAhead) table_.prepare(ban[kAhead].fingerprint);
      const StoredKey* storedKey = storedKeyOf(*ban);
      if (storedKey != nullptr) use(*storedKey);
    }
    return true;
  }

  // Counts the bans that are not over, and calls use(name, began) for the `most` with the longest
  // left of those that have a name, longest first; false where there is no memory for so many.
  template <class Use>
  bool longestBans(double most, double now, double banDuration, size_t& count, Use&& use) noexcept {
    const size_t room =
        most < static_cast<double>(bans_.size()) ? static_cast<size_t>(most) : bans_.size();
    const std::unique_ptr<Ban[]> kept(new (std::nothrow) Ban[room]);
    if (kept == nullptr) return false;
    // A heap, with the shortest of them at its top.
    Ban* const begin = kept.get();
    Ban* end = begin;
    count = 0;
    bans_.forEach([&](const Ban& ban) {
      if (!(elapsed(now, ban.began) < banDuration)) return;
      ++count;
      const bool isFull = end == begin + room;
      if (room == 0 || (isFull && !isLater(ban, *begin)) || storedKeyOf(ban) == nullptr) return;
      if (isFull) std::pop_heap(begin, end--, isLater);
      *end++ = ban;
      std::push_heap(begin, end, isLater);
    });
    std::sort_heap(begin, end, isLater);
    for (const Ban* ban = begin; ban != end; ++ban) use(*storedKeyOf(*ban), ban->began);
    return true;
  }

  // An offender's place in a snapshot: by its first violation, or behind all of those, if it has
  // none, by its ban.
  struct Place {
    uint64_t order;
    Fingerprint fingerprint;

    bool operator<(const Place& other) const noexcept { return order < other.order; }

    // In the place of an offender without violations.
    static constexpr uint64_t kBehind = uint64_t{1} << 63;
  };

  // Visits some offenders, as Table::sweep does: visit(place) for each that has a name and is not
  // late.
  template <class Visit>
  bool sweepPlaces(uint64_t& cursor, uint64_t last, Visit&& visit) noexcept {
    return table_.sweep(cursor, [&](const Offender& offender) {
      if (offender.storedKey && !isLate(offender, last)) visit(placeOf(offender));
      return false;
    });
  }

  // The last of all places so far: who becomes an offender later has a later one.
  uint64_t lastOrder() const noexcept { return lastOrder_; }

  // Whether both its violations and its ban, if there are any, came after the place `last` was
  // taken. One that is not has been an offender ever since.
  bool isLate(const Offender& offender, uint64_t last) noexcept {
    if (offender.violations > 0 && offender.order <= last) return false;
    const Ban* ban = hasBans() ? bans_.find(offender.fingerprint) : nullptr;
    return ban == nullptr || ban->order > last;
  }

  // The offender, if it is one that a snapshot names: it has a name, and its ban, if there is one,
  // is not over. `began` becomes that of the ban; kNever without one.
  const Offender* listed(const Fingerprint& fingerprint, double now, double banDuration,
                         double& began) noexcept {
    const Offender* offender = find(fingerprint);
    if (offender == nullptr || !offender->storedKey) return nullptr;
    began = bannedAt(fingerprint);
    return began == kNever || elapsed(now, began) < banDuration ? offender : nullptr;
  }

 private:
  Place placeOf(const Offender& offender) noexcept {
    if (offender.violations > 0) return {offender.order, offender.fingerprint};
    const Ban* ban = hasBans() ? bans_.find(offender.fingerprint) : nullptr;
    return {Place::kBehind | (ban == nullptr ? 0 : ban->order), offender.fingerprint};
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

  // Most limiters have no offender at all: then there is nothing to look up.
  Offender* find(const Fingerprint& fingerprint) noexcept {
    return table_.size() == 0 ? nullptr : table_.find(fingerprint);
  }

  void removeBan(const Fingerprint& fingerprint) noexcept {
    Ban* ban = hasBans() ? bans_.find(fingerprint) : nullptr;
    if (ban == nullptr) return;
    bans_.erase(ban);
    if (!hasBans()) earliest_ = kInfinity;
  }

  static bool isLater(const Ban& a, const Ban& b) noexcept {
    return a.began != b.began ? a.began > b.began : a.order > b.order;
  }

  // None where the key is not kept.
  const StoredKey* storedKeyOf(const Ban& ban) noexcept {
    const Offender* offender = find(ban.fingerprint);
    return offender != nullptr && offender->storedKey ? &offender->storedKey : nullptr;
  }

  void remove(Offender& offender) noexcept {
    if (offender.violations > 0 && offender.storedKey) {
      --violators_;
      top_.remove(violatorOf(offender));
    }
    total_.subtract(offender.violations);
    if (offender.storedKey) {
      longBytes_ -= longBytes(offender.storedKey.length);
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
    total_.add(violations - offender.violations);
    offender.violations = violations;
    if (offender.storedKey) top_.count(violatorOf(offender), violators_ - 1);
  }

  bool beginBan(Offender& offender, double now) noexcept {
    const Fingerprint fingerprint = offender.fingerprint;
    Ban* ban = bans_.insert(fingerprint);
    if (ban != nullptr) {
      *ban = {fingerprint, now, ++lastOrder_};
      earliest_ = std::min(earliest_, now);
      earliestSwept_ = std::min(earliestSwept_, now);
    } else if (offender.violations == 0) {
      remove(offender);
    }
    return ban != nullptr;
  }

  // The same ban, or one that began later.
  bool restoreBan(Offender& offender, double began) noexcept {
    Ban* ban = hasBans() ? bans_.find(offender.fingerprint) : nullptr;
    if (ban == nullptr) return beginBan(offender, began);
    ban->began = std::max(ban->began, began);
    return true;
  }

  // What a key takes of the room for long ones.
  static size_t longBytes(size_t length) noexcept {
    return length > kShort ? length * sizeof(char16_t) : 0;
  }

  Offender* findOrInsert(const Key& key) noexcept {
    Offender* offender = find(key.fingerprint);
    if (offender != nullptr) return offender;
    StoredKey stored = {};
    const size_t bytes = longBytes(key.length);
    const double most = key.length > kLong ? longBytesMost_ / 4 : longBytesMost_;
    const bool hasRoom = bytes == 0 || static_cast<double>(longBytes_ + bytes) <= most;
    if (hasRoom && !keys_.add(key.text, key.length, stored)) return nullptr;
    offender = table_.insert(key.fingerprint);
    if (offender == nullptr) {
      keys_.remove(stored);
      return nullptr;
    }
    *offender = {key.fingerprint, 0, 0, stored};
    if (hasRoom) {
      longBytes_ += bytes;
    } else {
      ++unnamed_;
    }
    return offender;
  }

  // How many bans ahead of an offender its memory is asked for.
  static constexpr int kAhead = 16;

  // Code units of the longest key that is always kept, and of the longest that all the room is for.
  static constexpr size_t kShort = 128;
  static constexpr size_t kLong = 1024;

  // The most that long keys may take together.
  const double longBytesMost_;
  size_t longBytes_ = 0;

  Table<Offender> table_;
  Table<Ban> bans_;
  KeyStore<> keys_;
  TopViolators top_;
  // No ban began before: the earliest since there was none, or since the last sweep.
  double earliest_ = kInfinity;
  // The earliest start among the bans that the present sweep has kept and those that began since it
  // began.
  double earliestSwept_ = kInfinity;
  // Offenders that have violations and a name.
  size_t violators_ = 0;
  // Offenders that have no name.
  size_t unnamed_ = 0;
  // The violations of all.
  Sum total_;
  uint64_t lastOrder_ = 0;
};

}  // namespace relay_limiter

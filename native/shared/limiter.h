// SharedLimiter is a limiter in a shared file, as one process uses it: each call locks the shard of
// its peer, and what concerns all peers visits one shard after the other. `Limiter` decides.
//
// A call that finds a shard stalled returns Verdict::kStalled, or false, and stalledBy() says which
// process holds it.
#pragma once

#include <algorithm>

#include "../limiters/direct-limiter.h"
#include "../limiters/orderbook-limiter.h"
#include "../limiters/rate-limiter.h"
#include "attachment.h"
#include "lists.h"
#include "size.h"
#include "storage.h"

namespace relay_limiter {

// The public class and the numbers of a config, which all limiters of a file must agree on.
inline void describe(const RateLimiterConfig& config, SharedLayout& layout) noexcept {
  layout.setLimiter("RateLimiter");
  layout.addNumber("rateLimit", config.rateLimit);
  layout.addNumber("burstLimit", config.burstLimit);
  layout.addNumber("disconnectThreshold", config.disconnectThreshold);
  layout.addNumber("maxPeers", config.maxPeers);
}

inline void describe(const OrderbookConfig& config, SharedLayout& layout) noexcept {
  layout.setLimiter("OrderbookRateLimiter");
  layout.addNumber("interval", config.interval);
  layout.addNumber("violationBanThreshold", config.violationBanThreshold);
  layout.addNumber("violationWarningThreshold", config.violationWarningThreshold);
  layout.addNumber("violationSevereThreshold", config.violationSevereThreshold);
  layout.addNumber("banDuration", config.banDuration);
  layout.addNumber("maxPeers", config.maxPeers);
}

inline void describe(const DirectConfig& config, SharedLayout& layout) noexcept {
  layout.setLimiter("DirectConnectionRateLimiter");
  layout.addNumber("messageRatePerSec", config.messageRatePerSec);
  layout.addNumber("messageBurst", config.messageBurst);
  layout.addNumber("orderbookInterval", config.orderbookInterval);
  layout.addNumber("orderbookBanThreshold", config.orderbookBanThreshold);
  layout.addNumber("banDuration", config.banDuration);
  layout.addNumber("maxPeers", config.maxPeers);
}

template <template <class> class Limiter>
class SharedLimiter : public SharedAttachment {
 public:
  using Core = Limiter<SharedStorage>;
  using Config = typename Core::Config;

  explicit SharedLimiter(const Config& config) noexcept
      : maxPeers_(config.maxPeers),
        size_(config.maxPeers),
        core_(shardConfig(config, size_), SharedStorage(cursor_, shape_)) {
    describe(config, layout_);
    layout_.shards = size_.shards;
    layout_.headBytes = roundUp(shape_.headBytes, 64);
    layout_.pageBytes = shape_.pageBytes;
    layout_.nameBytes = shape_.nameBytes;
    cursor_.region = &region_;
  }

  // Joins the file at `path`, or creates it with `secret`. False with an error.
  bool attach(const char* path, const Secret& secret, SharedError& error) noexcept {
    if (!(maxPeers_ >= 1 && maxPeers_ <= SharedSize::kMostPeers)) {
      return error.fail("maxPeers of a shared limiter must be from 1 to %.0f, got %.15g",
                        SharedSize::kMostPeers, maxPeers_);
    }
    BanList bans;
    const auto prepare = [&](SharedError&) {
      for (uint32_t i = 0; i < shards(); ++i) {
        point(i);
        core_.clear();
      }
      restoreBans(bans);
      return true;
    };
    const auto collect = [&] { collectBans(bans); };
    const auto layoutFor = [&](const SharedLayout*, SharedError&) { return &layout_; };
    if (!region_.attach(path, layoutFor, secret, prepare, collect, error)) return false;
    refreshSecret();
    return true;
  }

  double banDuration() const noexcept { return core_.banDuration(); }

  // The limiter, while a Visit exists; it works on the shard of the visit.
  Core& core() noexcept { return core_; }

  // Locks a shard as long as it exists.
  class Visit {
   public:
    // The shard of a peer. If the key has been hashed with an older secret, hashes it again;
    // without its text the visit does not begin, and needsText() is true.
    Visit(SharedLimiter& limiter, Key& key, Patience patience) noexcept : limiter_(limiter) {
      for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
        isBegun_ = limiter.enter(limiter.region_.shardOf(key.fingerprint), patience);
        if (!isBegun_ || limiter.hasCurrentSecret()) return;
        limiter.refreshSecret();
        // No more than that unless the file is damaged: while the secret changes, all shards are
        // locked.
        limiter.cursor_.head->secretVersion = limiter.secretVersion_;
        limiter.leave();
        isBegun_ = false;
        needsText_ = key.text == nullptr;
        if (needsText_) return;
        key.fingerprint = fingerprintOf(key.text, key.length, limiter.secret_);
      }
      // The secret changes all the time: the file is damaged, and nobody knows the holder.
      limiter.stalledBy_ = 0;
    }
    Visit(SharedLimiter& limiter, uint32_t shard, Patience patience) noexcept : limiter_(limiter) {
      isBegun_ = limiter.enter(shard, patience);
    }
    ~Visit() noexcept { end(); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    // False if the shard is stalled, or if needsText().
    explicit operator bool() const noexcept { return isBegun_; }
    bool needsText() const noexcept { return needsText_; }
    // The verdict of a check whose visit does not begin.
    Verdict failure() const noexcept {
      return needsText_ ? Verdict::kNeedsText : Verdict::kStalled;
    }

    // The later of `now` and the latest instant of the shard.
    double time(double now) noexcept {
      double& latest = limiter_.cursor_.head->latest;
      // Written so that a NaN, if there ever were one, does not stay.
      if (!(now < latest)) latest = now;
      return latest;
    }

    void end() noexcept {
      if (isBegun_) limiter_.leave();
      isBegun_ = false;
    }

   private:
    static constexpr unsigned kMostAttempts = 100;

    SharedLimiter& limiter_;
    bool isBegun_ = false;
    bool needsText_ = false;
  };

  // Calls use(core, now) in the shard of a peer. False if the shard is stalled. The key has its
  // text.
  template <class Use>
  bool withPeer(Key key, double now, Use&& use) noexcept {
    Visit visit(*this, key, Patience::kLong);
    if (visit) use(core_, key, visit.time(now));
    return bool{visit};
  }

  // The instant of a shard may be later than `now`.
  template <class Use>
  bool eachShard(double now, Use&& use) noexcept {
    for (uint32_t i = 0; i < shards(); ++i) {
      Visit visit(*this, i, Patience::kLong);
      if (!visit) return false;
      use(core_, visit.time(now));
    }
    return true;
  }

  // Fetches the memory that the next visits will read.
  void prepare(const Fingerprint& fingerprint) const noexcept {
    prefetch(region_.headAt(region_.shardOf(fingerprint)));
  }

  bool removePeer(const Key& key) noexcept {
    return withPeer(key, 0, [](Core& core, const Key& found, double) { core.removePeer(found); });
  }

  bool clear() noexcept {
    return eachShard(0, [](Core& core, double) { core.clear(); });
  }

  // Restores an offender.
  Verdict restore(const Key& key, const SavedOffender& saved, double now, unsigned most) noexcept {
    Verdict verdict = Verdict::kStalled;
    withPeer(key, now, [&](Core& core, const Key& found, double time) {
      verdict = core.restore(found, saved, time, most);
    });
    return verdict;
  }

  // Restores a peer by its fingerprint under the limiter's secret.
  Verdict restorePeer(const SavedDigest& saved, double now) noexcept {
    Key key{saved.digest, nullptr, 0};
    Visit visit(*this, key, Patience::kLong);
    return visit ? core_.restorePeer(saved, visit.time(now)) : Verdict::kStalled;
  }

  // Adopts another secret, if there is no peer in any shard. False if a shard is stalled.
  bool adopt(const Secret& secret) noexcept {
    if (secret == currentSecret()) return true;
    const auto unlock = [this](uint32_t shard) { headOf(shard).lock.unlock(); };
    const LockedAll locked = lockAll(
        shards(), Patience::kLong,
        [this](uint32_t shard, Patience patience) { return enter(shard, patience); }, unlock,
        [this](uint32_t) { return core_.isEmpty(); });
    if (locked != LockedAll::kYes) return locked == LockedAll::kDeclined;
    region_.header().change(secret);
    refreshSecret();
    for (uint32_t i = 0; i < shards(); ++i) {
      headOf(i).secretVersion = secretVersion_;
      unlock(i);
    }
    return true;
  }

  // Removes idle peers and what is over, for about `budgetMs`, and adds the number of removed peers
  // to `removed`. With a finite budget, only one limiter of a file does it at a time; the others do
  // nothing. Leaves stalled shards out.
  uint64_t cleanup(double maxIdle, double budgetMs, double now) noexcept {
    const bool isBounded = budgetMs < kInfinity;
    if (isBounded && !beginCleaning(budgetMs)) return 0;
    const double deadline = isBounded ? monotonicSeconds() + budgetMs / 1000 : kInfinity;
    if (!isBounded) nextCleaned_ = 0;
    uint64_t removed = 0;
    do {
      Visit visit(*this, nextCleaned_, Patience::kShort);
      if (visit) removed += core_.cleanup(maxIdle, kInfinity, visit.time(now));
      ++nextCleaned_;
    } while (nextCleaned_ < shards() && (!isBounded || monotonicSeconds() < deadline));
    if (nextCleaned_ >= shards()) nextCleaned_ = 0;
    if (isBounded) endCleaning();
    return removed;
  }
  bool isCleaning() const noexcept { return nextCleaned_ > 0; }

  bool readStatistics(SharedStatistics& statistics) noexcept {
    return eachShard(0, [&](Core& core, double) {
      auto& table = core.offenders().table();
      statistics.tracked += core.tracked();
      statistics.peers += core.peers();
      statistics.unnamed += table.unnamed();
      statistics.violations.add(table.totalViolations());
      statistics.counters.add(core.counters());
      uint64_t cursor = 0;
      table.sweepNamed(cursor, [&](const Offender& offender) {
        if (offender.violations > 0) statistics.top.offer(offender, table.keyOf(offender));
      });
    });
  }

  // Collects the bans in force with a stored key, and sets `count` to the number of all in force.
  // False if a shard is stalled; then `hasMemory` is true, or if there is no memory.
  bool readBans(BanList& bans, size_t& count, double now, bool& hasMemory) noexcept {
    count = 0;
    hasMemory = true;
    for (uint32_t i = 0; i < shards(); ++i) {
      // No allocation while a shard is locked.
      hasMemory = bans.reserve(Page<Ban>::kCapacity);
      if (!hasMemory) return false;
      Visit visit(*this, i, Patience::kLong);
      if (!visit) return false;
      const double time = visit.time(now);
      core_.offenders().eachBan(time, banDuration(), [&](const Ban& ban, const StoredKey& key) {
        ++count;
        if (key) bans.push(ban, key, secondsLeft(banDuration(), elapsed(time, ban.began)));
      });
    }
    return true;
  }

  // For SnapshotWalk, which takes this for a limiter:

  static constexpr unsigned kSnapshotPasses = 1;

  struct OffenderView {
    SharedLimiter& limiter;

    const OffenderView& table() const noexcept { return *this; }
    uint64_t lastOrder() const noexcept { return limiter.region_.header().order.load(); }

    template <class VisitPosition>
    bool sweepPositions(uint64_t& cursor, uint64_t order, VisitPosition&& visitPosition) noexcept {
      const auto shard = static_cast<uint32_t>(cursor);
      Visit visit(limiter, shard, Patience::kLong);
      if (visit) {
        uint64_t page = 0;
        limiter.core_.offenders().sweepPositions(page, order, visitPosition);
      } else {
        limiter.hasStalled_ = true;
      }
      return ++cursor < limiter.shards();
    }
  };

  OffenderView offenders() noexcept { return {*this}; }

  // Whether a shard was stalled since the last call.
  bool takeStalled() noexcept {
    const bool stalled = hasStalled_;
    hasStalled_ = false;
    return stalled;
  }

  // Calls use(offender, began) with a copy, when the shard is unlocked.
  template <class Use>
  void visitOffender(const Fingerprint& fingerprint, double now, Use&& use) noexcept {
    OffenderCopy copy;
    double banBegan = kNever;
    double time = now;
    bool isFound = false;
    {
      Key key{fingerprint, nullptr, 0};
      Visit visit(*this, key, Patience::kLong);
      if (!visit) {
        hasStalled_ = hasStalled_ || !visit.needsText();
        return;
      }
      time = visit.time(now);
      core_.visitOffender(fingerprint, time, [&](const Offender& offender, double began) {
        isFound = true;
        banBegan = began;
        copy.set(offender, core_.offenders().table().keyOf(offender));
      });
    }
    if (isFound) use(copy.offender(), banBegan == kNever ? kNever : banBegan + (now - time));
  }

  template <class UseOffender, class UseDigest>
  bool sweepSnapshotPass(unsigned, uint64_t& cursor, double now, uint64_t order,
                         UseOffender&& useOffender, UseDigest&& useDigest) noexcept {
    Fingerprint newer[Page<Offender>::kCapacity];
    unsigned count = 0;
    {
      Visit visit(*this, static_cast<uint32_t>(cursor), Patience::kLong);
      if (visit) {
        const auto useNewer = [&](const Offender& offender, double) {
          if (count < Page<Offender>::kCapacity) newer[count++] = offender.fingerprint;
        };
        const double time = visit.time(now);
        for (unsigned pass = 0; pass < Core::kSnapshotPasses; ++pass) {
          uint64_t page = 0;
          core_.sweepSnapshotPass(pass, page, time, order, useNewer, useDigest);
        }
      } else {
        hasStalled_ = true;
      }
    }
    for (unsigned i = 0; i < count; ++i) visitOffender(newer[i], now, useOffender);
    return ++cursor < shards();
  }

  SavedBucket savedBucket(const Fingerprint& fingerprint, double now) noexcept {
    SavedBucket saved = SavedBucket::none();
    readPeer(fingerprint, now, [&](double time) { saved = core_.savedBucket(fingerprint, time); });
    return saved;
  }

  double idleSeconds(const Fingerprint& fingerprint, double now) noexcept {
    double seconds = kInfinity;
    readPeer(fingerprint, now,
             [&](double time) { seconds = core_.idleSeconds(fingerprint, time); });
    return seconds;
  }

 private:
  // Collects the bans of a file that nobody uses, which an earlier boot has left. The wall clock
  // says how much of them is left.
  void collectBans(BanList& bans) noexcept {
    const double now = wallMilliseconds() / 1000 - region_.header().wallOffset;
    for (uint32_t i = 0; i < shards() && bans.reserve(Page<Ban>::kCapacity); ++i) {
      point(i);
      core_.repair();
      core_.offenders().eachBan(now, banDuration(), [&](const Ban& ban, const StoredKey& key) {
        const double left = secondsLeft(banDuration(), elapsed(now, ban.began));
        if (left > 0 && left <= banDuration()) bans.push(ban, key, left);
      });
    }
    bans.sortByBeginning();
  }

  // Restores them in a file that nobody else can see.
  void restoreBans(const BanList& bans) noexcept {
    const double now = monotonicSeconds();
    for (size_t i = 0; i < bans.size(); ++i) {
      char16_t text[KeyCopy::kMostUnits];
      const Key key = bans.keyOf(i, region_.header().secret(0), text);
      point(region_.shardOf(key.fingerprint));
      core_.restore(key, {0, bans[i].secondsLeft, kInfinity, SavedBucket::none()}, now, kSample);
      cursor_.head->unfinished = 0;
    }
  }

  static Config shardConfig(Config config, const SharedSize& size) noexcept {
    config.maxPeers = size.mostInShard;
    return config;
  }

  uint32_t shards() const noexcept { return static_cast<uint32_t>(size_.shards); }
  ShardHead& headOf(uint32_t shard) const noexcept {
    return *reinterpret_cast<ShardHead*>(region_.headAt(shard));
  }

  void point(uint32_t shard) noexcept {
    cursor_.head = &headOf(shard);
    cursor_.shard = shard;
  }

  // Locks a shard and makes it the one on which the limiter works. False if it is stalled.
  bool enter(uint32_t shard, Patience patience) noexcept {
    point(shard);
    const Locked locked = cursor_.head->lock.lock(region_, patience);
    if (locked == Locked::kYes) return true;
    return enterSlowly(locked);
  }

  RELAY_LIMITER_NOINLINE bool enterSlowly(Locked locked) noexcept {
    ShardHead& head = *cursor_.head;
    if (locked == Locked::kStalled) {
      stalledBy_ = region_.processOf(head.lock.holder());
      return false;
    }
    core_.repair();
    head.unfinished = 0;
    head.secretVersion = region_.header().secretVersion.load();
    return true;
  }

  void leave() noexcept {
    ShardHead& head = *cursor_.head;
    if (head.unfinished != 0) head.unfinished = 0;
    head.lock.unlock();
  }

  bool hasCurrentSecret() const noexcept { return cursor_.head->secretVersion == secretVersion_; }

  template <class Read>
  void readPeer(const Fingerprint& fingerprint, double now, Read&& read) noexcept {
    Key key{fingerprint, nullptr, 0};
    Visit visit(*this, key, Patience::kLong);
    if (visit) read(visit.time(now));
  }

  const double maxPeers_;
  const SharedSize size_;
  ShardShape shape_;
  SharedCursor cursor_;
  Core core_;
  uint32_t nextCleaned_ = 0;
  bool hasStalled_ = false;
};

}  // namespace relay_limiter

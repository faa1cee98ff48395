// Comparison makes the same calls of a private and of a shared limiter, which must agree in
// everything.
#pragma once

#include <cmath>

#include "shared-limiters.h"

// A table of one shard has one page, as a private table of so few peers. So both find the same
// records when they look for one to evict.
constexpr double kComparedPeers = 300;

constexpr RateLimiterConfig kComparedRate{0.5, 3, 8, kComparedPeers};
constexpr OrderbookConfig kComparedOrderbook{2, 4, 2, 3, 20, kComparedPeers};
constexpr DirectConfig kComparedDirect{0.5, 3, 2, 4, 20, kComparedPeers};

template <template <class> class Limiter>
class Comparison {
 public:
  using Private = Limiter<PrivateStorage>;
  using Shared = SharedLimiter<Limiter>;
  using Config = typename Shared::Config;

  // `shared` is empty, and outlives this.
  Comparison(const Config& config, Shared& shared) : private_(config), shared_(shared) {}

  // From now on the private limiter is left out.
  void stopComparing() { isComparing_ = false; }

  void pass(double seconds) { now_ += seconds; }
  double now() const { return now_; }

  // A check, or rarely another call about bans.
  void check(const Key& key, unsigned choice) {
    both(key, [&](auto& core, const Key& found, double now) {
      return checkOne(core, found, now, choice);
    });
  }

  void removePeer(const Key& key) {
    both(key, [](auto& core, const Key& found, double) {
      core.removePeer(found);
      return 0.0;
    });
  }

  void restore(const Key& key, const SavedOffender& saved) {
    both(key, [&](auto& core, const Key& found, double now) {
      return static_cast<double>(core.restore(found, saved, now, kMostLookedAt));
    });
  }

  void read(const Key& key) {
    both(key, [](auto& core, const Key& found, double now) {
      return core.idleSeconds(found.fingerprint, now) +
             1e6 * static_cast<double>(core.offenders().table().violations(found.fingerprint));
    });
  }

  void cleanup(double age) {
    const uint64_t removed = shared_.cleanup(age, kInfinity, now_);
    if (!isComparing_) return;
    require(private_.cleanup(age, kInfinity, now_) == removed, "both remove the same peers");
  }

  void clear() {
    require(shared_.clear(), "a table can be cleared");
    private_.clear();
  }

  void compareTotals() {
    SharedStatistics statistics;
    require(shared_.readStatistics(statistics), "there are statistics");
    BanList bans;
    size_t inForce = 0;
    bool hasMemory = true;
    require(shared_.readBans(bans, inForce, now_, hasMemory), "bans are listed");
    bans.sortByBeginning();
    if (!isComparing_) return;
    auto& offenders = private_.offenders().table();
    require(statistics.peers == private_.peers(), "both store the same peers");
    require(statistics.tracked == private_.tracked(), "both track the same peers");
    require(statistics.violations.value() == offenders.totalViolations(), "violations");
    require(std::memcmp(&statistics.counters, &private_.counters(), sizeof(Counters)) == 0,
            "both count the same verdicts and evictions");
    const Offender* top[OffenderTable::kTop];
    const size_t count = offenders.topViolators(top);
    require(statistics.top.size() == count, "both list as many violators");
    for (size_t i = 0; i < count; ++i) {
      require(statistics.top[i].violations == top[i]->violations, "both list the same violators");
      require(!(statistics.top[i].key.key() < top[i]->storedKey) &&
                  !(top[i]->storedKey < statistics.top[i].key.key()),
              "both list the same keys");
    }
    size_t i = 0;
    require(private_.offenders().bannedKeys(now_, private_.banDuration(),
                                            [&](const StoredKey& key) {
                                              const StoredKey other = bans[i++].key.key();
                                              require(!(key < other) && !(other < key),
                                                      "both list the same bans");
                                            }),
            "there is memory");
    require(i == bans.size(), "both list as many bans");
  }

 private:
  // Calls use(core, key, now) for both limiters, which must return equal numbers.
  template <class Use>
  void both(const Key& key, Use&& use) {
    double actual = std::nan("");
    require(shared_.withPeer(key, now_,
                             [&](auto& core, const Key& found, double time) {
                               require(!isComparing_ || time == now_,
                                       "the time is that of the call");
                               actual = use(core, found, time);
                             }),
            "a shard can be locked");
    if (!isComparing_) return;
    const double expected = use(private_, key, now_);
    if (actual == expected || (actual != actual && expected != expected)) return;
    std::fprintf(stderr, "%g, not %g\n", actual, expected);
    require(false, "both limiters return the same");
  }

  template <class Core>
  static double checkBucket(Core& core, const Key& key, double cost, double now) {
    Bucket* bucket = nullptr;
    const Verdict verdict = core.check(key, bucket, cost, now);
    return 100 * static_cast<int>(verdict) + (bucket == nullptr ? 0 : bucket->tokens);
  }

  template <class Storage>
  static double checkOne(BasicRateLimiter<Storage>& core, const Key& key, double now,
                         unsigned choice) {
    return checkBucket(core, key, 1 + choice % 3, now);
  }

  template <class Storage>
  static double checkOne(BasicOrderbookLimiter<Storage>& core, const Key& key, double now,
                         unsigned choice) {
    if (choice % 50 == 0) return core.isBanned(key.fingerprint, now) ? 1.0 : 0.0;
    if (choice % 50 == 1) return core.unban(key.fingerprint, now) ? 1.0 : 0.0;
    return static_cast<double>(core.check(key, core.allowedAt().find(key.fingerprint), now));
  }

  template <class Storage>
  static double checkOne(BasicDirectLimiter<Storage>& core, const Key& key, double now,
                         unsigned choice) {
    if (choice % 50 == 0) return core.isBanned(key.fingerprint, now) ? 1.0 : 0.0;
    if (choice % 50 == 1) return core.unban(key.fingerprint, now) ? 1.0 : 0.0;
    if (choice % 2 == 1) return checkBucket(core, key, 1, now);
    auto* last = core.allowedAt().find(key.fingerprint);
    return static_cast<double>(core.checkOrderbook(key, last, now));
  }

  Private private_;
  Shared& shared_;
  bool isComparing_ = true;
  double now_ = 1000;
};

// OrderbookRateLimiter's decisions. Twin of lib/engine/js/orderbook-limiter.ts: same names, same
// order of statements.
#pragma once

#include "offenders.h"
#include "records.h"
#include "sweep.h"
#include "verdict.h"

namespace relay_limiter {

class OrderbookLimiter {
 public:
  struct Config {
    double interval;
    double violationBanThreshold;
    double violationWarningThreshold;
    double violationSevereThreshold;
    double banDuration;
  };

  explicit OrderbookLimiter(const Config& config) noexcept : config_(config) {}

  // `last` is the peer's, nullptr where it has none.
  Verdict check(const Key& key, LastAllowed* last, double now) noexcept {
    if (isBanned(key.fingerprint, now)) {
      return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kRefused;
    }
    const auto violations = static_cast<double>(offenders_.violations(key.fingerprint));
    if (violations >= config_.violationBanThreshold) {
      if (!offenders_.canName(key)) return Verdict::kNeedsName;
      return offenders_.beginBan(key, now) ? Verdict::kBanBegins : Verdict::kNoMemory;
    }
    const double allowedAt = last == nullptr ? kNever : last->at;
    if (elapsed(now, allowedAt) >= effectiveInterval(violations)) {
      const bool stored = setAllowedAt(allowedAt_, last, key.fingerprint, now);
      return stored ? Verdict::kAllowed : Verdict::kNoMemory;
    }
    if (!offenders_.canName(key)) return Verdict::kNeedsName;
    return offenders_.addViolation(key) == 0 ? Verdict::kNoMemory : Verdict::kRefused;
  }

  const AllowedTimes& allowedAt() const noexcept { return allowedAt_; }

  bool isBanned(const Fingerprint& print, double now) noexcept {
    const double bannedAt = offenders_.bannedAt(print);
    if (bannedAt == kNever) return false;
    if (elapsed(now, bannedAt) < config_.banDuration) return true;
    offenders_.forgive(print);
    // Where there is no memory for it, a peer without an entry is allowed as well.
    setAllowedAt(allowedAt_, nullptr, print, kNever);
    return false;
  }

  void removePeer(const Fingerprint& print) noexcept {
    erase(allowedAt_, print);
    offenders_.forgive(print);
  }

  uint64_t cleanup(double maxAge, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    const auto old = [&](LastAllowed& last) {
      if (!(elapsed(now, last.at) > maxAge)) return false;
      if (offenders_.bannedAt(last.fingerprint) == kNever) offenders_.forgive(last.fingerprint);
      ++removed;
      return true;
    };
    const auto over = [&](const Ban& ban) { return elapsed(now, ban.began) > config_.banDuration; };
    sweep_.run(2, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      return pass == 0 ? allowedAt_.sweep(cursor, old) : offenders_.sweepBans(cursor, over);
    });
    return removed;
  }

  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  void clear() noexcept {
    allowedAt_.clear();
    offenders_.clear();
    sweep_.stop();
  }

  Offenders& offenders() noexcept { return offenders_; }
  size_t tracked() const noexcept { return allowedAt_.size(); }
  size_t memoryBytes() const noexcept {
    return allowedAt_.memoryBytes() + offenders_.memoryBytes();
  }
  double banDuration() const noexcept { return config_.banDuration; }

 private:
  double effectiveInterval(double violations) const noexcept {
    if (violations < config_.violationWarningThreshold) return config_.interval;
    if (violations < config_.violationSevereThreshold) return config_.interval * 6;
    return config_.interval * 30;
  }

  const Config config_;
  // When each peer was last allowed.
  AllowedTimes allowedAt_;
  Offenders offenders_;
  Sweep sweep_;
};

}  // namespace relay_limiter

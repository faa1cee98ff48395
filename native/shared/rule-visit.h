// RuleVisit locks the shards that a call of a RuleLimiter needs, in ascending order, each once, and
// points the cursor of each scope to its own.
#pragma once

#include "rule-shards.h"

namespace relay_limiter {

class RuleVisit {
 public:
  RuleVisit(RuleShards& rules, Needs needs, Patience patience) noexcept
      : rules_(rules), needs_(needs), patience_(patience) {}
  ~RuleVisit() noexcept { end(); }
  RuleVisit(const RuleVisit&) = delete;
  RuleVisit& operator=(const RuleVisit&) = delete;

  void add(unsigned scope, uint32_t shard) noexcept {
    ofScope_[scope] = shard;
    scopes_ |= 1u << scope;
    unsigned at = count_;
    for (; at > 0 && shards_[at - 1] >= shard; --at) {
      if (shards_[at - 1] == shard) return;
    }
    for (unsigned i = count_++; i > at; --i) shards_[i] = shards_[i - 1];
    shards_[at] = shard;
  }

  void addAll(uint32_t shard) noexcept {
    for (unsigned i = 0; i < kMaxScopes; ++i) add(i, shard);
  }

  Entered enter() noexcept {
    if (count_ == 0) shards_[count_++] = rules_.shards_;
    Entered entered = Entered::kYes;
    unsigned last = 0;
    const auto lock = [&](unsigned i, Patience patience) {
      last = i;
      return rules_.lock(shards_[i], patience);
    };
    const LockedAll locked = lockAll(
        count_, patience_, lock, [&](unsigned i) { rules_.unlock(shards_[i]); },
        [&](unsigned i) {
          entered = rules_.admit(shards_[i], needs_);
          return entered == Entered::kYes;
        });
    if (locked == LockedAll::kDeclined) return entered;
    if (locked == LockedAll::kStalled) return stallAt(shards_[last]);
    isEntered_ = true;
    eachBit(scopes_, [&](unsigned i) { rules_.point(rules_.cursors_.scopes[i], ofScope_[i]); });
    rules_.point(rules_.cursors_.common, shards_[0]);
    return Entered::kYes;
  }

  // The latest of `now` and the instants of the shards.
  double time(double now) noexcept { return rules_.timeOf(shards_, count_, now); }

  void end() noexcept {
    for (unsigned i = count_; isEntered_ && i > 0; --i) rules_.unlock(shards_[i - 1]);
    isEntered_ = false;
  }

 private:
  RELAY_LIMITER_NOINLINE Entered stallAt(uint32_t shard) noexcept {
    rules_.stalledScope_ = 0;
    for (uint32_t left = scopes_; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if (ofScope_[i] != shard) continue;
      rules_.stalledScope_ = i;
      break;
    }
    return Entered::kStalled;
  }

  RuleShards& rules_;
  const Needs needs_;
  const Patience patience_;
  bool isEntered_ = false;
  uint32_t scopes_ = 0;
  unsigned count_ = 0;
  uint32_t ofScope_[kMaxScopes];
  uint32_t shards_[kMaxScopes + 1];
};

}  // namespace relay_limiter

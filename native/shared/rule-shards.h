// RuleShards are the shards of a RuleLimiter's file as one process uses them: their locks, the
// cursors that point to them, and what the process knows of the rules and of the secret in the
// file. RuleVisit locks those that a call needs.
#pragma once

#include <memory>

#include "../limiters/rules/limiter.h"
#include "attachment.h"
#include "rule-storage.h"

namespace relay_limiter {

static_assert(kMaxScopes == RuleShape::kMostScopes, "the file has a place for each scope");

static_assert(sizeof(ShardHead) + sizeof(RuleOutcomes) <= 64,
              "each check writes both: they share a cache line");

// Whether a call must have the rules of the file. Calls that only read keys, violations and bans
// need not.
enum class Needs { kCurrentRules, kAnyRules };

// How far a call has come to the shards that it needs.
enum class Entered { kYes, kOutdated, kStalled, kOldSecret };

template <class Use>
void eachBit(uint32_t bits, Use&& use) noexcept {
  for (; bits != 0; bits &= bits - 1) use(lowestBit(bits));
}

class RuleShards : public SharedAttachment {
 public:
  using Core = BasicRuleLimiter<SharedRuleStorages>;
  using Scope = typename Core::Scope;
  using ScopeKey = typename Core::ScopeKey;

  uint32_t shards() const noexcept { return shards_; }
  const RulePlan& plan() const noexcept { return core_->plan(); }
  uint32_t singleScopes() const noexcept { return core_->singleScopes(); }
  bool isSingle(unsigned scope) const noexcept { return core_->isSingle(scope); }
  // A scope with records, while a call uses it.
  Scope& scope(unsigned index) noexcept { return core_->scope(index); }

  // Calls use(scope) for each scope with records.
  template <class Use>
  void eachKeyed(Use&& use) const noexcept {
    for (unsigned i = 0; i < core_->plan().scopes; ++i) {
      if (!core_->isSingle(i)) use(i);
    }
  }

  // Of the last call that found a shard stalled: the first scope whose key needed it.
  unsigned stalledScope() const noexcept { return stalledScope_; }

 protected:
  friend class RuleVisit;

  // The head with the number `shards_` is that of single scopes.
  ShardHead& headOf(uint32_t shard) const noexcept {
    return *reinterpret_cast<ShardHead*>(region_.headAt(shard));
  }

  void point(SharedCursor& cursor, uint32_t shard) noexcept {
    cursor.head = &headOf(shard);
    cursor.shard = shard;
  }

  void pointAll(uint32_t shard) noexcept {
    for (SharedCursor& cursor : cursors_.scopes) point(cursor, shard);
    point(cursors_.common, shard);
  }

  // Locks a shard. False if it is stalled.
  bool lock(uint32_t shard, Patience patience) noexcept {
    const Locked locked = headOf(shard).lock.lock(region_, patience);
    return locked == Locked::kYes || lockSlowly(shard, locked);
  }

  void unlock(uint32_t shard) noexcept {
    ShardHead& head = headOf(shard);
    if (head.unfinished != 0) head.unfinished = 0;
    head.lock.unlock();
  }

  // Whether a call may use a locked shard.
  Entered admit(uint32_t shard, Needs needs) noexcept {
    if (!hasRules(shard, needs)) return Entered::kOutdated;
    return headOf(shard).secretVersion == secretVersion_ ? Entered::kYes : renewSecret(shard);
  }

  // The latest of `now` and the instants of some shards, which becomes that of all of them.
  double timeOf(const uint32_t* shards, unsigned count, double now) noexcept {
    double time = now;
    for (unsigned i = 0; i < count; ++i) time = std::max(time, headOf(shards[i]).latest);
    time = core_->time(time);
    for (unsigned i = 0; i < count; ++i) headOf(shards[i]).latest = time;
    return time;
  }

  void repair(uint32_t shard) noexcept {
    pointAll(shard);
    eachKeyed([&](unsigned i) { core_->scope(i).repair(); });
  }

  // Completes an update whose process has ended before it came to this shard, which is locked. The
  // version of the header is the one that counts: it changes only while all shards are locked. A
  // damaged head gets it as well. False if this process has other rules.
  RELAY_LIMITER_NOINLINE bool catchUp(uint32_t shard) noexcept {
    if (region_.header().configVersion.load() != version_) return false;
    pointAll(shard);
    core_->replaceCounts(added_);
    keepOrderOfWrites();
    headOf(shard).configVersion = version_;
    return true;
  }

  // This process has the rules of a version, which have replaced those of the slots `added`.
  void setRules(uint32_t version, const uint16_t* added) noexcept {
    version_ = version;
    std::copy_n(added, kMaxScopes, added_);
    fits_ = true;
  }

  uint32_t shards_ = 0;
  ShardShape shape_;
  RuleCursors cursors_;
  std::unique_ptr<Core> core_;
  // The version of the rules of this process; 0 if it must read those of the file first.
  uint32_t version_ = 0;
  // For each scope the slots to which these rules gave another rule.
  uint16_t added_[kMaxScopes] = {};
  // Whether the file has room for the rules of this process.
  bool fits_ = false;
  unsigned stalledScope_ = 0;

 private:
  bool hasRules(uint32_t shard, Needs needs) noexcept {
    if (needs == Needs::kAnyRules) return fits_;
    return version_ != 0 && (headOf(shard).configVersion == version_ || catchUp(shard));
  }

  // Reads the secret of the file. Unless the file is damaged, that is the one of all shards: while
  // it changes, all are locked.
  RELAY_LIMITER_NOINLINE Entered renewSecret(uint32_t shard) noexcept {
    refreshSecret();
    headOf(shard).secretVersion = secretVersion_;
    return Entered::kOldSecret;
  }

  RELAY_LIMITER_NOINLINE bool lockSlowly(uint32_t shard, Locked locked) noexcept {
    ShardHead& head = headOf(shard);
    if (locked == Locked::kStalled) {
      stalledBy_ = region_.processOf(head.lock.holder());
      return false;
    }
    if (shard < shards_) repair(shard);
    head.unfinished = 0;
    head.secretVersion = region_.header().secretVersion.load();
    // The holder may have ended in an update: then catchUp() completes it.
    if (head.configVersion != region_.header().configVersion.load()) head.configVersion = 0;
    return true;
  }
};

}  // namespace relay_limiter

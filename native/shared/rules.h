// SharedRules is a RuleLimiter in a shared file, as one process uses it. A check locks the shards
// of all its keys in ascending order, the head of single scopes last, and decides; every other call
// holds one lock at a time. Only an update and another secret lock all (rule-file.h).
//
// The file has the rules by which all processes decide. A call that finds under its lock that this
// process has others does nothing and returns kOutdated: read the rules, adopt() them, and repeat
// it. A call that finds a shard stalled returns kStalled, and stalledBy() says which process holds
// it.
#pragma once

#include "rule-file.h"
#include "rule-visit.h"

namespace relay_limiter {

class SharedRules : public RuleFile {
 public:
  // The scopes whose keys a call needs. `mask` has the scopes that are to be asked.
  uint32_t keyedScopes(uint32_t mask, unsigned program, double now) const noexcept {
    return core_->keyedScopes(mask, program, now);
  }
  // The single scopes that a check asks.
  uint32_t askedSingles(uint32_t mask, unsigned program) const noexcept {
    return mask & core_->singleScopes() & core_->plan().asks[program];
  }

  // Calls use(core, keys, scopes, time) in the shards of the keys of `keyed`, which have their
  // texts, and of `singles`, and waits for these shards with `patience`. Writes the slots of the
  // keys that have one.
  template <class Use>
  RuleAnswer callByKeys(ScopeKey* keys, uint32_t keyed, uint32_t singles, double now,
                        Patience patience, Use&& use) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      RuleVisit visit(*this, Needs::kCurrentRules, patience);
      eachBit(keyed, [&](unsigned i) { visit.add(i, region_.shardOf(keys[i].key.fingerprint)); });
      eachBit(singles, [&](unsigned i) { visit.add(i, shards_); });
      const Entered entered = visit.enter();
      if (entered == Entered::kOldSecret) {
        visit.end();
        eachBit(keyed, [&](unsigned i) {
          Key& key = keys[i].key;
          key.fingerprint = fingerprintOf(key.text, key.length, secret_);
        });
        continue;
      }
      if (entered != Entered::kYes) return answerOf(entered);
      PeerSlot* slots[kMaxScopes];
      eachBit(keyed, [&](unsigned i) {
        slots[i] = keys[i].slot;
        keys[i].slot = nullptr;
      });
      const RuleAnswer answer = use(*core_, keys, keyed | singles, visit.time(now));
      eachBit(keyed, [&](unsigned i) {
        if (slots[i] == nullptr) return;
        *slots[i] = core_->scope(i).records().slotOf(keys[i].key.fingerprint);
      });
      return answer;
    }
    return answerOf(giveUp());
  }

  // Checks a peer at its slots. kNeedsText if a record is not there.
  RuleAnswer checkAt(const PeerSlot* slots, uint32_t keyed, uint32_t singles, unsigned program,
                     double now, RuleNumbers& numbers) noexcept {
    RuleVisit visit(*this, Needs::kCurrentRules, Patience::kShort);
    bool areSlots = true;
    eachBit(keyed, [&](unsigned i) {
      const size_t shard = slots[i].page();
      areSlots = areSlots && shard < shards_;
      if (areSlots) visit.add(i, static_cast<uint32_t>(shard));
    });
    if (!areSlots) return RuleAnswer::kNeedsText;
    eachBit(singles, [&](unsigned i) { visit.add(i, shards_); });
    const Entered entered = visit.enter();
    if (entered != Entered::kYes) return answerOf(entered);
    ScopeKey keys[kMaxScopes];
    eachBit(keyed, [&](unsigned i) {
      ScopeKey& key = keys[i];
      key = {{{0, 0}, nullptr, 0}, nullptr, nullptr};
      key.state = core_->scope(i).records().at(slots[i], key.key.fingerprint);
      areSlots = areSlots && key.state != nullptr;
    });
    if (!areSlots) return RuleAnswer::kNeedsText;
    return core_->check(keys, keyed | singles, program, visit.time(now), numbers);
  }

  // Fetches the memory that a call of a peer will read first.
  void prepare(const Fingerprint& fingerprint) const noexcept {
    prefetch(region_.headAt(region_.shardOf(fingerprint)));
  }

  // Calls use(scope, key, time) in the shard of a peer. The key has its text, or is a fingerprint
  // under the current secret.
  template <class Use>
  Entered withPeer(Needs needs, unsigned scope, Key key, double now, Use&& use) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      RuleVisit visit(*this, needs, Patience::kLong);
      visit.add(scope, region_.shardOf(key.fingerprint));
      const Entered entered = visit.enter();
      if (entered == Entered::kOldSecret && key.text != nullptr) {
        visit.end();
        key.fingerprint = fingerprintOf(key.text, key.length, secret_);
        continue;
      }
      if (entered == Entered::kYes) use(core_->scope(scope), key, visit.time(now));
      return entered;
    }
    return giveUp();
  }

  // Calls use(core, time) with the state of all single scopes.
  template <class Use>
  Entered withSingles(Needs needs, double now, Use&& use) noexcept {
    return withShard(needs, Patience::kLong, shards_, now, [&](double time) { use(*core_, time); });
  }

  // Calls use(core) for each shard and for the head of single scopes, whose values of other scopes
  // are zeros, by the current rules. kOutdated may come after some calls.
  template <class Use>
  Entered eachHead(Use&& use) noexcept {
    for (uint32_t shard = 0; shard <= shards_; ++shard) {
      const Entered entered =
          withShard(Needs::kCurrentRules, Patience::kLong, shard, 0, [&](double) { use(*core_); });
      if (entered != Entered::kYes) return entered;
    }
    return Entered::kYes;
  }

  // Calls use(time) for a shard.
  template <class Use>
  Entered withShard(Needs needs, Patience patience, uint32_t shard, double now,
                    Use&& use) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      RuleVisit visit(*this, needs, patience);
      visit.addAll(shard);
      const Entered entered = visit.enter();
      if (entered == Entered::kOldSecret) {
        visit.end();
        continue;
      }
      if (entered == Entered::kYes) use(visit.time(now));
      return entered;
    }
    return giveUp();
  }

  // As SharedLimiter::cleanup.
  uint64_t cleanup(double maxIdle, double budgetMs, double now, bool& isOutdated) noexcept {
    const bool isBounded = budgetMs < kInfinity;
    isOutdated = false;
    if (isBounded && !beginCleaning(budgetMs)) return 0;
    const double deadline = isBounded ? monotonicSeconds() + budgetMs / 1000 : kInfinity;
    if (!isBounded) nextCleaned_ = 0;
    uint64_t removed = 0;
    do {
      const auto clean = [&](double time) {
        eachKeyed([&](unsigned i) {
          for (unsigned pass = 0; pass < Scope::kPasses; ++pass) {
            uint64_t page = 0;
            core_->scope(i).sweep(pass, page, maxIdle, time, removed);
          }
        });
      };
      const Entered entered =
          withShard(Needs::kCurrentRules, Patience::kShort, nextCleaned_, now, clean);
      isOutdated = entered == Entered::kOutdated;
      if (isOutdated) break;
      ++nextCleaned_;
    } while (nextCleaned_ < shards_ && (!isBounded || monotonicSeconds() < deadline));
    if (nextCleaned_ >= shards_) nextCleaned_ = 0;
    if (isBounded) endCleaning();
    return removed;
  }
  bool isCleaning() const noexcept { return nextCleaned_ > 0; }

  Entered clear() noexcept {
    for (uint32_t shard = 0; shard < shards_; ++shard) {
      const Entered entered = withShard(Needs::kAnyRules, Patience::kLong, shard, 0, [&](double) {
        eachKeyed([&](unsigned i) { core_->scope(i).clear(); });
      });
      if (entered != Entered::kYes) return entered;
    }
    return withSingles(Needs::kAnyRules, 0, [](Core& core, double) { core.clearSingles(); });
  }

 private:
  static constexpr unsigned kMostAttempts = 100;

  static RuleAnswer answerOf(Entered entered) noexcept {
    if (entered == Entered::kOutdated) return RuleAnswer::kOutdated;
    return entered == Entered::kStalled ? RuleAnswer::kStalled : RuleAnswer::kNeedsText;
  }

  // A call that has found another secret at each attempt. All shards are locked while the secret
  // changes, so the file is damaged; nobody knows the holder of such a shard.
  Entered giveUp() noexcept {
    stalledBy_ = 0;
    return Entered::kStalled;
  }

  uint32_t nextCleaned_ = 0;
};

}  // namespace relay_limiter

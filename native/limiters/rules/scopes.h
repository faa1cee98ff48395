// RuleScopes has the plan of a RuleLimiter and its scopes, and what does not need a decision.
// Counterpart of lib/engine/js/rules/scopes.ts.
#pragma once

#include <memory>
#include <utility>

#include "../../table/tags.h"
#include "../sweep.h"
#include "scope.h"

namespace relay_limiter {

// How many checks had each outcome.
struct RuleOutcomes {
  uint64_t allowed = 0;
  uint64_t delayed = 0;
  uint64_t banned = 0;

  void add(const RuleOutcomes& other) noexcept {
    allowed += other.allowed;
    delayed += other.delayed;
    banned += other.banned;
  }
};

template <class Storages>
class BasicRuleScopes {
 public:
  using Scope = BasicScopeState<Storages>;

  explicit BasicRuleScopes(const Storages& storages) noexcept
      : outcomes_(storages.template value<RuleOutcomes>()),
        latestBanEnd_(storages.latestEnd()),
        singles_(storages.template byScope<RuleState>()),
        storages_(storages) {}

  // Sets the first plan. Scope i is single if bit i of `singleScopes` is set. False if there is no
  // memory.
  bool start(RulePlan&& plan, uint32_t singleScopes, double maxPeers) noexcept {
    plan_ = std::move(plan);
    singleScopes_ = singleScopes;
    for (unsigned i = 0; i < plan_.scopes; ++i) {
      if (isSingle(i)) continue;
      scopes_[i].reset(new (std::nothrow)
                           Scope(i, maxPeers, plan_, rates_, latestBanEnd_, storages_));
      if (scopes_[i] == nullptr) return false;
    }
    if constexpr (Storages::kIsPrivate) clearSingles();
    return true;
  }

  // Replaces the plan. `origins` and `added` are those of RulePlan in lib/engine/rules.ts. False if
  // there is no memory; then nothing has changed.
  bool updatePlan(RulePlan&& next, const uint16_t* origins, const uint16_t* added,
                  double now) noexcept {
    if (!rates_.update(plan_, next, origins, added, now)) return false;
    plan_ = std::move(next);
    for (unsigned i = 0; i < plan_.scopes; ++i) {
      if (!isSingle(i)) scopes_[i]->records().widen(plan_.slots[i]);
    }
    return true;
  }

  // For a file that processes share: replaces the plan and the history by those of another process;
  // see Rates::readHistory.
  bool adopt(RulePlan&& next, const double* history, size_t size) noexcept {
    if (!rates_.readHistory(history, size, next)) return false;
    plan_ = std::move(next);
    return true;
  }

  // Only for a limiter that is not used any more.
  RulePlan takePlan() noexcept { return std::move(plan_); }

  const Rates& rates() const noexcept { return rates_; }
  const RulePlan& plan() const noexcept { return plan_; }
  uint32_t singleScopes() const noexcept { return singleScopes_; }
  bool isSingle(unsigned scope) const noexcept { return (singleScopes_ >> scope & 1) != 0; }
  Scope& scope(unsigned index) noexcept { return *scopes_[index]; }

  // The time of the limiter if the clock says `now`. Pass it to the methods below.
  double time(double now) noexcept { return rates_.time(now); }

  // False only if no ban is in force. True does not mean that one is.
  bool mayBan(double now) const noexcept { return now < latestBanEnd_.value(); }

  // The scopes whose keys a check needs.
  uint32_t keyedScopes(uint32_t mask, unsigned program, double now) const noexcept {
    return mask & ~singleScopes_ & (mayBan(now) ? mask : plan_.asks[program]);
  }

  // Writes the idle seconds and the used tokens that a snapshot saves of a single scope.
  void saveSingle(unsigned scope, double now, double* numbers) const noexcept {
    const double* state = singles_[scope].numbers;
    numbers[0] = elapsed(now, state[0]);
    rates_.save(state, scope, plan_.slots[scope], now, numbers + 1);
  }

  // Restores them: keeps the higher used tokens.
  void restoreSingle(unsigned scope, const double* numbers, double now) noexcept {
    const unsigned slots = plan_.slots[scope];
    RuleState saved = rates_.saved(numbers + 1, now - numbers[0], scope, slots);
    rates_.merge(saved, singles_[scope].numbers, scope, slots, now);
  }

  // Removes idle peers and returns their number, which does not include pending records.
  uint64_t cleanup(double maxIdle, double budgetMs, double now) noexcept {
    uint64_t removed = 0;
    sweep_.run(plan_.scopes * Scope::kPasses, budgetMs, [&](unsigned pass, uint64_t& cursor) {
      const unsigned i = pass / Scope::kPasses;
      return !isSingle(i) &&
             scopes_[i]->sweep(pass % Scope::kPasses, cursor, maxIdle, now, removed);
    });
    return removed;
  }
  bool isCleaning() const noexcept { return sweep_.isUnderway(); }

  // Whether the limiter stores nothing of any peer.
  bool isEmpty() const noexcept {
    for (unsigned i = 0; i < plan_.scopes; ++i) {
      if (!isSingle(i) && !scopes_[i]->isEmpty()) return false;
    }
    return true;
  }

  void setDigestKey(const Secret& key) noexcept {
    for (unsigned i = 0; i < plan_.scopes; ++i) {
      if (!isSingle(i)) scopes_[i]->pending().setKey(key);
    }
  }

  size_t memoryBytes() const noexcept {
    size_t bytes = 0;
    for (const auto& scope : scopes_) bytes += scope == nullptr ? 0 : scope->memoryBytes();
    return bytes;
  }

  void clearSingles() noexcept {
    for (unsigned i = 0; i < plan_.scopes; ++i) {
      if (isSingle(i)) singles_[i].reset(kNever);
    }
  }

  void clear() noexcept {
    clearSingles();
    for (const auto& scope : scopes_) {
      if (scope != nullptr) scope->clear();
    }
    latestBanEnd_.clear();
    sweep_.stop();
  }

 protected:
  // The first of all values: in a shared file these counts lie behind the lock, in the cache line
  // that each check writes anyway.
  decltype(std::declval<const Storages&>().template value<RuleOutcomes>()) outcomes_;
  RulePlan plan_;
  Rates rates_{plan_};
  // No ban ends after this instant.
  typename Storages::LatestEnd latestBanEnd_;
  // nullptr for a single scope.
  std::unique_ptr<Scope> scopes_[kMaxScopes];
  uint32_t singleScopes_ = 0;
  typename Storages::template ByScope<RuleState> singles_;

 private:
  const Storages storages_;
  Sweep sweep_;
};

}  // namespace relay_limiter

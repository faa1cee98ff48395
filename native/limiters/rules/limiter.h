// RuleLimiter decides the checks of the public class RuleLimiter. Counterpart of
// lib/engine/js/rules/limiter.ts; the contract is lib/engine/rules.ts.
#pragma once

#include <utility>

#include "decision.h"
#include "scopes.h"

namespace relay_limiter {

template <class Storages>
class BasicRuleLimiter : public BasicRuleScopes<Storages> {
  using Base = BasicRuleScopes<Storages>;
  using Base::outcomes_;
  using Base::plan_;
  using Base::rates_;
  using Base::scopes_;
  using Base::singles_;
  using Base::singleScopes_;

 public:
  using Base::isSingle;
  using Base::mayBan;
  using Base::updatePlan;
  using typename Base::Scope;

  explicit BasicRuleLimiter(const Storages& storages = Storages()) noexcept
      : Base(storages), counters_(storages.template byScope<RuleCounts>()) {}

  // As BasicRuleScopes::updatePlan.
  bool update(RulePlan&& next, const uint16_t* origins, const uint16_t* added,
              double now) noexcept {
    if (!updatePlan(std::move(next), origins, added, now)) return false;
    replaceCounts(added);
    return true;
  }

  // Slots get other rules; `added` as in update().
  void replaceCounts(const uint16_t* added) noexcept {
    for (unsigned i = 0; i < plan_.scopes; ++i) {
      for (uint32_t bits = added[i]; bits != 0; bits &= bits - 1)
        counters_[i].replace(lowestBit(bits));
    }
  }

  // The key of a scope.
  struct ScopeKey {
    Key key;
    // Of its record in the current table, if that is known, else nullptr.
    double* state;
    // A slot that is to be updated if `state` is unknown, or nullptr.
    PeerSlot* slot;
  };

  // Checks the scopes of `mask`. `keys` has the keys of keyedScopes().
  RuleAnswer check(const ScopeKey* keys, uint32_t mask, unsigned program, double now,
                   RuleNumbers& numbers) noexcept {
    if (mayBan(now) && findBan(keys, mask, now, numbers)) {
      ++outcomes_->banned;
      return RuleAnswer::kBanned;
    }
    Check check(plan_, program, numbers, keys, now);
    const RuleAnswer found = lookUp(check, mask);
    if (found != RuleAnswer::kAllowed) return found;
    if (check.decision.refusing() != 0) return refuse(check);
    if (check.absent != 0) {
      const RuleAnswer added = addNewcomers(check);
      if (added != RuleAnswer::kAllowed) return added;
    }
    ++outcomes_->allowed;
    return check.decision.charge(counters_);
  }

  // The answer of a check, without any change. Writes the used tokens by scope and slot to `used`,
  // which is all zeros.
  RuleAnswer peek(const ScopeKey* keys, uint32_t mask, unsigned program, double now,
                  RuleNumbers& numbers, double* used) noexcept {
    return peekAt(keys, mask, mask, program, now, numbers, used);
  }

  // The same; the used tokens of the scopes with applying rules are in `numbers`.
  RuleAnswer look(const ScopeKey* keys, uint32_t mask, unsigned program, double now,
                  RuleNumbers& numbers) noexcept {
    const uint32_t asked = mask & plan_.asks[program];
    double used[kMaxScopes * kMaxRules];
    const RuleAnswer answer = peekAt(keys, mask, asked, program, now, numbers, used);
    for (uint32_t left = asked; left != 0; left &= left - 1) {
      const unsigned first = lowestBit(left) * kMaxRules;
      std::copy_n(used + first, kMaxRules, numbers.used + first);
    }
    return answer;
  }

  // Reads the records of `scopes`.
  RuleAnswer peekAt(const ScopeKey* keys, uint32_t mask, uint32_t scopes, unsigned program,
                    double now, RuleNumbers& numbers, double* used) noexcept {
    Check check(plan_, program, numbers, keys, now);
    for (uint32_t left = scopes; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      RuleState& copy = check.fresh[i];
      read(keys[i].key, i, now, copy);
      rates_.refill(copy.numbers, i, plan_.slots[i], check.decision.planIndex(), now);
      std::copy_n(copy.numbers + 1, kMaxRules, used + i * kMaxRules);
      if ((plan_.asks[program] >> i & 1) != 0) check.decision.ask(i, copy.numbers);
    }
    if (mayBan(now) && findBan(keys, mask, now, numbers)) return RuleAnswer::kBanned;
    if (check.decision.refusing() == 0) {
      NoRuleCounts counters;
      return check.decision.charge(counters);
    }
    uint8_t slots[kMaxScopes];
    check.decision.findRefusal(singleScopes_, slots);
    return RuleAnswer::kDelayed;
  }

  // Gives costs back. Creates no record.
  RuleAnswer refund(const ScopeKey* keys, uint32_t mask, unsigned program, double now,
                    RuleNumbers& numbers) noexcept {
    Check check(plan_, program, numbers, keys, now);
    const RuleAnswer found = lookUp(check, mask);
    if (found == RuleAnswer::kAllowed) check.decision.settle(~0u, -1);
    return found;
  }

  // Takes costs without asking.
  RuleAnswer charge(const ScopeKey* keys, uint32_t mask, unsigned program, double now,
                    RuleNumbers& numbers) noexcept {
    Check check(plan_, program, numbers, keys, now);
    const RuleAnswer found = lookUp(check, mask);
    if (found != RuleAnswer::kAllowed) return found;
    uint32_t newcomers = 0;
    uint32_t withoutRoom = 0;
    for (uint32_t left = check.absent; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if (!check.decision.takesUnasked(i)) continue;
      (admit(check, i) ? newcomers : withoutRoom) |= 1u << i;
    }
    if (!insert(check, newcomers, 0)) return RuleAnswer::kNoMemory;
    check.decision.settle(~withoutRoom, 1);
    return RuleAnswer::kAllowed;
  }

  const RuleCounts& counts(unsigned scope) const noexcept { return counters_[scope]; }
  const RuleOutcomes& outcomes() const noexcept { return *outcomes_; }

  bool isResized() const noexcept { return isResized_; }
  // Whether the tables may have changed their size since the last call.
  bool takeResized() noexcept { return std::exchange(isResized_, false); }

 private:
  // One check on its way.
  struct Check {
    Check(const RulePlan& plan, unsigned program, RuleNumbers& results, const ScopeKey* scopeKeys,
          double time) noexcept
        : decision(plan, program, results),
          asks(plan.asks[program]),
          keys(scopeKeys),
          now(time),
          numbers(results) {}

    RuleDecision decision;
    const uint32_t asks;
    const ScopeKey* const keys;
    const double now;
    RuleNumbers& numbers;
    // The scopes in which the peer has no record.
    uint32_t absent = 0;
    // The numbers of peers that are fresh.
    RuleState fresh[kMaxScopes];
    typename Scope::Eviction evictions[kMaxScopes];
  };

  // Whether a ban is in force; then writes the results of the longest one.
  RELAY_LIMITER_NOINLINE bool findBan(const ScopeKey* keys, uint32_t mask, double now,
                                      RuleNumbers& numbers) noexcept {
    double longest = 0;
    for (uint32_t left = mask & ~singleScopes_; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      const double seconds = scopes_[i]->offenders().banSecondsLeft(keys[i].key.fingerprint, now);
      if (!(seconds > longest)) continue;
      longest = seconds;
      numbers.set(seconds, -1, static_cast<int>(i));
      numbers.begun = 0;
    }
    return longest > 0;
  }

  // Finds and refills the numbers of all scopes with applying rules, and asks these.
  RuleAnswer lookUp(Check& check, uint32_t mask) noexcept {
    const uint32_t asked = mask & check.asks;
    const uint32_t keyed = asked & ~singleScopes_;
    // With several scopes, the caches fetch all records at once.
    if ((keyed & (keyed - 1)) != 0) prepare(check, keyed);
    for (uint32_t left = asked; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      double* state = isSingle(i) ? singles_[i].numbers : stateOf(check, i);
      if (state == nullptr) {
        const RuleAnswer found = find(check, i, state);
        if (found != RuleAnswer::kAllowed) return found;
      }
      if (rates_.isSimple(state, check.now)) {
        check.decision.refillAndAsk(i, state, Rates::startRefill(state, check.now));
      } else {
        rates_.refill(state, i, plan_.slots[i], check.decision.planIndex(), check.now);
        check.decision.ask(i, state);
      }
    }
    return RuleAnswer::kAllowed;
  }

  void prepare(const Check& check, uint32_t scopes) const noexcept {
    for (uint32_t left = scopes; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if (check.keys[i].state == nullptr)
        scopes_[i]->records().prepare(check.keys[i].key.fingerprint);
    }
  }

  // The peer's numbers if it has a current record that is easy to find, else nullptr.
  double* stateOf(const Check& check, unsigned i) const noexcept {
    const ScopeKey& key = check.keys[i];
    if (key.state != nullptr) return key.state;
    return key.slot == nullptr ? scopes_[i]->records().find(key.key.fingerprint) : nullptr;
  }

  // Finds the numbers of a peer in any place. A fresh peer gets numbers of its own.
  RELAY_LIMITER_NOINLINE RuleAnswer find(Check& check, unsigned i, double*& state) noexcept {
    Scope& scope = *scopes_[i];
    const Key& key = check.keys[i].key;
    if (!scope.records().fetch(key.fingerprint, state)) return RuleAnswer::kNoMemory;
    PeerSlot* const slot = check.keys[i].slot;
    if (slot != nullptr) *slot = scope.records().slotOf(key.fingerprint);
    if (state != nullptr) return RuleAnswer::kAllowed;
    check.absent |= 1u << i;
    if (scope.needsText(key)) return RuleAnswer::kNeedsText;
    state = scope.findPending(key);
    if (state != nullptr) return RuleAnswer::kAllowed;
    check.fresh[i].reset(check.now);
    state = check.fresh[i].numbers;
    return RuleAnswer::kAllowed;
  }

  // Copies the numbers of a peer.
  void read(const Key& key, unsigned i, double now, RuleState& copy) noexcept {
    if (isSingle(i)) {
      copy = singles_[i];
      return;
    }
    if (scopes_[i]->records().read(key.fingerprint, copy)) return;
    copy.reset(now);
    const double* pending = scopes_[i]->findPending(key);
    if (pending != nullptr) std::copy_n(pending, 1 + kMaxRules, copy.numbers);
  }

  bool admit(Check& check, unsigned i) noexcept {
    return scopes_[i]->admit(check.keys[i].key.fingerprint, check.now, EvictionCost::ofBanned(),
                             kMostLookedAt, check.evictions[i]);
  }

  // Adds records for an allowed check. Without room, what dry-run rules take is not stored.
  RELAY_LIMITER_NOINLINE RuleAnswer addNewcomers(Check& check) noexcept {
    uint32_t newcomers = 0;
    uint32_t withoutRoom = 0;
    for (uint32_t left = check.absent; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if (!check.decision.takes(i)) continue;
      if (admit(check, i)) {
        newcomers |= 1u << i;
      } else if (check.decision.takesUnasked(i)) {
        return answerNoRoom(check, i);
      } else {
        withoutRoom |= 1u << i;
      }
    }
    if (!insert(check, newcomers, 0)) return RuleAnswer::kNoMemory;
    countNoRoom(withoutRoom);
    for (uint32_t left = withoutRoom; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      RuleState& copy = check.fresh[i];
      if (check.decision.state(i) == copy.numbers) continue;
      std::copy_n(check.decision.state(i), 1 + kMaxRules, copy.numbers);
      check.decision.move(i, copy.numbers);
    }
    return RuleAnswer::kAllowed;
  }

  void countNoRoom(uint32_t scopes) noexcept {
    for (uint32_t left = scopes; left != 0; left &= left - 1)
      ++scopes_[lowestBit(left)]->counters().refusedNewcomers;
  }

  RuleAnswer answerNoRoom(Check& check, unsigned i) noexcept {
    check.decision.countChecked(counters_);
    ++scopes_[i]->counters().refusedNewcomers;
    ++outcomes_->delayed;
    check.numbers.set(kNoRoomDelay, -1, static_cast<int>(i));
    return RuleAnswer::kNoRoom;
  }

  // Inserts the records of `newcomers`, for which admit() has returned true, and what the
  // violations of `violated` need. Evicts only then. False if there is no memory; then nothing has
  // changed.
  bool insert(Check& check, uint32_t newcomers, uint32_t violated) noexcept {
    typename Scope::Offenders::Reserved reserved[kMaxScopes];
    uint32_t inserted = 0;
    isResized_ = true;
    for (uint32_t left = newcomers | violated; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if (!insert(check, i, newcomers >> i & 1, violated >> i & 1, reserved[i])) {
        undo(check, inserted & newcomers, inserted & violated, reserved);
        return false;
      }
      inserted |= 1u << i;
    }
    for (uint32_t left = newcomers; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      scopes_[i]->evict(check.evictions[i]);
      scopes_[i]->pending().remove(check.keys[i].key);
      double* const state = scopes_[i]->records().find(check.keys[i].key.fingerprint);
      // In a shared file that is damaged, what was inserted may not be found.
      if (state != nullptr) check.decision.move(i, state);
    }
    return true;
  }

  bool insert(Check& check, unsigned i, bool isNewcomer, bool isViolation,
              typename Scope::Offenders::Reserved& reserved) noexcept {
    Scope& scope = *scopes_[i];
    const Key& key = check.keys[i].key;
    if (isNewcomer) {
      RuleState state;
      std::copy_n(check.decision.state(i), 1 + kMaxRules, state.numbers);
      if (scope.records().insert(key.fingerprint, state) == nullptr) return false;
    }
    if (!isViolation || scope.offenders().reserve(key, scope.policy().exists, reserved))
      return true;
    if (isNewcomer) scope.records().erase(key.fingerprint);
    return false;
  }

  void undo(Check& check, uint32_t newcomers, uint32_t violated,
            const typename Scope::Offenders::Reserved* reserved) noexcept {
    for (uint32_t left = newcomers | violated; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      const Fingerprint& fingerprint = check.keys[i].key.fingerprint;
      scopes_[i]->offenders().release(fingerprint, reserved[i]);
      if ((newcomers >> i & 1) != 0) scopes_[i]->records().erase(fingerprint);
    }
  }

  RELAY_LIMITER_NOINLINE RuleAnswer refuse(Check& check) noexcept {
    uint8_t violatedSlots[kMaxScopes];
    uint32_t violated = check.decision.findRefusal(singleScopes_, violatedSlots);
    for (uint32_t left = violated; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if (!scopes_[i]->offenders().canAdd(check.keys[i].key)) return RuleAnswer::kNeedsText;
    }
    uint32_t newcomers = 0;
    uint32_t withoutRoom = 0;
    for (uint32_t left = check.absent; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      if ((violated >> i & 1) == 0 && !check.decision.takesDryRun(i)) continue;
      (admit(check, i) ? newcomers : withoutRoom) |= 1u << i;
    }
    violated &= ~withoutRoom;
    if ((newcomers | violated) != 0 && !insert(check, newcomers, violated))
      return RuleAnswer::kNoMemory;
    countNoRoom(withoutRoom);
    check.decision.refuse(counters_, ~withoutRoom);
    if (punish(check, violated, violatedSlots)) {
      ++outcomes_->banned;
      return RuleAnswer::kBanned;
    }
    ++outcomes_->delayed;
    return RuleAnswer::kDelayed;
  }

  // Counts a violation in each scope of `violated`. Whether a ban begins; then writes the results.
  bool punish(Check& check, uint32_t violated, const uint8_t* violatedSlots) noexcept {
    RuleNumbers& numbers = check.numbers;
    uint32_t begun = 0;
    double longest = 0;
    for (uint32_t left = violated; left != 0; left &= left - 1) {
      const unsigned i = lowestBit(left);
      Scope& scope = *scopes_[i];
      const Fingerprint& fingerprint = check.keys[i].key.fingerprint;
      const uint64_t violations = scope.offenders().addViolation(fingerprint);
      Punishment* const punishment = scope.offenders().find(fingerprint);
      if (!scope.policy().exists || punishment == nullptr) continue;
      const double seconds =
          scope.offenders().punish(*punishment, scope.policy(), numbers.random[i], check.now);
      if (!(seconds > 0)) continue;
      ++scope.counters().bansBegun;
      begun |= 1u << i;
      numbers.banSeconds[i] = seconds;
      numbers.violations[i] = static_cast<double>(violations);
      numbers.banRule[i] = violatedSlots[i];
      if (!(seconds > longest)) continue;
      longest = seconds;
      numbers.set(seconds, static_cast<int>(i * kMaxRules + violatedSlots[i]), static_cast<int>(i));
    }
    numbers.begun = begun;
    return begun != 0;
  }

  // The delay of a check for which there is no room, in seconds.
  static constexpr double kNoRoomDelay = 1;

  typename Storages::template ByScope<RuleCounts> counters_;
  bool isResized_ = false;
};

using RuleLimiter = BasicRuleLimiter<PrivateRuleStorages>;

}  // namespace relay_limiter

// RuleDecision asks the rules that apply to a check, charges them, and finds the refusing rule with
// the longest delay. It knows the numbers of each scope, but not where they are stored. Counterpart
// of lib/engine/js/rules/decision.ts, with the same order of operations, so that both engines
// return bit-identical results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../table/tags.h"
#include "plan.h"
#include "records.h"

namespace relay_limiter {

enum class RuleAnswer : uint8_t {
  kAllowed,
  kWarned,
  kDelayed,
  kBanned,
  // Refused: a scope has no room for a record. Nothing has changed.
  kNoRoom,
  // Not decided and not counted: the text of the keys is needed. The caller repeats the check with
  // it.
  kNeedsText,
  // Not decided: there is no memory.
  kNoMemory,
  // Only in a shared file, and not decided: the rules have changed, or a part of the file is
  // stalled.
  kOutdated,
  kStalled,
};

// The arguments and results of a check: RULE_NUMBERS in lib/engine/rules.ts.
struct RuleNumbers {
  // Arguments.
  double costs[kMaxUnits];
  double random[kMaxScopes];
  // Results.
  double delay;
  double rule;
  double scope;
  double warning;
  double begun;
  double unused[3];
  double banSeconds[kMaxScopes];
  double violations[kMaxScopes];
  double banRule[kMaxScopes];
  double reserve[16];
  // Of an allowed check and of RuleLimiter::look: the used tokens by scope and slot.
  double used[kMaxScopes * kMaxRules];

  void set(double delaySeconds, int ruleNumber, int scopeNumber) noexcept {
    delay = delaySeconds;
    rule = ruleNumber;
    scope = scopeNumber;
  }
};

static_assert(offsetof(RuleNumbers, random) == 8 * 8 && offsetof(RuleNumbers, delay) == 16 * 8 &&
                  offsetof(RuleNumbers, banSeconds) == 24 * 8 &&
                  offsetof(RuleNumbers, violations) == 32 * 8 &&
                  offsetof(RuleNumbers, banRule) == 40 * 8 &&
                  offsetof(RuleNumbers, used) == 64 * 8 &&
                  sizeof(RuleNumbers) == (64 + kMaxScopes * kMaxRules) * 8,
              "lib/engine/rules.ts has the same indexes");

// How often each rule of a scope was asked, by slot.
struct RuleCounts {
  uint64_t checked[kMaxRules] = {};
  uint64_t refused[kMaxRules] = {};
  uint64_t dryRunRefused[kMaxRules] = {};
  // Of rules whose slots have other rules now.
  uint64_t replacedChecked = 0;
  uint64_t replacedRefused = 0;

  void add(const RuleCounts& other) noexcept {
    for (unsigned slot = 0; slot < kMaxRules; ++slot) {
      checked[slot] += other.checked[slot];
      refused[slot] += other.refused[slot];
      dryRunRefused[slot] += other.dryRunRefused[slot];
    }
    replacedChecked += other.replacedChecked;
    replacedRefused += other.replacedRefused;
  }

  // A slot gets another rule.
  void replace(unsigned slot) noexcept {
    replacedChecked += checked[slot];
    replacedRefused += refused[slot];
    checked[slot] = refused[slot] = dryRunRefused[slot] = 0;
  }
};

// Counts that nobody reads.
struct NoRuleCounts {
  RuleCounts counts;

  RuleCounts& operator[](unsigned) noexcept { return counts; }
};

class RuleDecision {
 public:
  RuleDecision(const RulePlan& plan, unsigned program, RuleNumbers& numbers) noexcept
      : plan_(plan),
        planIndex_(plan.planOf[program]),
        applies_(plan.appliesTo(program)),
        numbers_(numbers) {}

  unsigned planIndex() const noexcept { return planIndex_; }
  // The scopes that are asked.
  uint32_t scopes() const noexcept { return scopes_; }
  // The scopes with a rule, not on dry run, that refuses.
  uint32_t refusing() const noexcept { return refusing_; }

  double* state(unsigned scope) const noexcept { return states_[scope]; }
  // Sets the numbers of a scope, which is asked already, after they have moved.
  void move(unsigned scope, double* state) noexcept { states_[scope] = state; }

  // Asks the applying rules of a scope. The numbers are refilled.
  void ask(unsigned scope, double* state) noexcept {
    const uint8_t* const units = plan_.units + scope * kMaxRules;
    const double* const bursts = plan_.bursts.begin() + plan_.rowOf(planIndex_, scope);
    uint32_t refused = 0;
    for (uint32_t bits = applies_[scope]; bits != 0; bits &= bits - 1) {
      const unsigned slot = lowestBit(bits);
      if (!(state[1 + slot] + numbers_.costs[units[slot]] <= bursts[slot])) refused |= 1u << slot;
    }
    setAsked(scope, state, refused);
  }

  // The same, and refills the numbers for so many seconds first. One loop takes half the time of
  // two.
  void refillAndAsk(unsigned scope, double* state, double seconds) noexcept {
    const uint8_t* const units = plan_.units + scope * kMaxRules;
    const size_t row = plan_.rowOf(planIndex_, scope);
    const double* const rates = plan_.rates.begin() + row;
    const double* const bursts = plan_.bursts.begin() + row;
    const unsigned slots = plan_.slots[scope];
    const uint32_t applies = applies_[scope];
    uint32_t refused = 0;
    for (unsigned slot = 0; slot < slots; ++slot) {
      const double used = drained(state[1 + slot], seconds, rates[slot]);
      state[1 + slot] = used;
      const bool allows = used + numbers_.costs[units[slot]] <= bursts[slot];
      if (!allows) refused |= 1u << slot;
    }
    setAsked(scope, state, refused & applies);
  }

  // Whether the check takes something from a scope if all rules but those on dry run allow it.
  bool takes(unsigned scope) const noexcept {
    return hasCost(scope, applies_[scope] & ~uint32_t{refused_[scope]});
  }
  // Whether a rule takes something that is not on dry run, whatever it allows.
  bool takesUnasked(unsigned scope) const noexcept {
    return hasCost(scope, applies_[scope] & ~uint32_t{plan_.dryRun[scope]});
  }
  // Whether a dry-run rule takes something.
  bool takesDryRun(unsigned scope) const noexcept {
    return hasCost(scope, applies_[scope] & ~uint32_t{refused_[scope]} & plan_.dryRun[scope]);
  }

  // Charges a check that no rule refuses, and writes the used tokens of the charged rules.
  // `counters` has the RuleCounts of each scope.
  template <class Counts>
  RuleAnswer charge(Counts& counters) noexcept {
    for (uint32_t left = scopes_; left != 0; left &= left - 1) {
      const unsigned scope = lowestBit(left);
      const uint8_t* const units = plan_.units + scope * kMaxRules;
      uint64_t* const checked = counters[scope].checked;
      double* const used = states_[scope] + 1;
      double* const results = numbers_.used + scope * kMaxRules;
      const uint32_t refused = refused_[scope];
      for (uint32_t bits = applies_[scope] & ~refused; bits != 0; bits &= bits - 1) {
        const unsigned slot = lowestBit(bits);
        used[slot] = results[slot] = charged(used[slot], numbers_.costs[units[slot]]);
        ++checked[slot];
      }
      if (refused != 0) countDryRunRefused(scope, counters[scope]);
    }
    return plan_.hasWarnings ? findWarning() : RuleAnswer::kAllowed;
  }

  // Counts a check for which there is no room.
  template <class Counts>
  void countChecked(Counts& counters) const noexcept {
    each(
        scopes_, [&](unsigned scope) { return applies_[scope]; },
        [&](unsigned scope, unsigned slot) { ++counters[scope].checked[slot]; });
  }

  // Writes the results of a check that a rule refuses. Returns the scopes of which it is a
  // violation, and sets for each the violating rule with the longest delay.
  uint32_t findRefusal(uint32_t singleScopes, uint8_t (&violatedSlots)[kMaxScopes]) noexcept {
    Longest longest;
    Longest violating[kMaxScopes];
    uint32_t violated = 0;
    each(
        refusing_, [&](unsigned scope) { return refused_[scope] & ~uint32_t{plan_.dryRun[scope]}; },
        [&](unsigned scope, unsigned slot) {
          const size_t at = plan_.rowOf(planIndex_, scope) + slot;
          const unsigned rule = scope * kMaxRules + slot;
          const double cost = costOf(scope, slot);
          const double delay =
              ruleDelay(states_[scope][1 + slot], cost, plan_.bursts[at], plan_.rates[at]);
          longest.offer(delay, rule, plan_.ranks[rule]);
          const bool counts = (plan_.countsViolation[scope] >> slot & 1) != 0;
          if (!counts || !(cost > 0) || (singleScopes >> scope & 1) != 0) return;
          violated |= 1u << scope;
          violating[scope].offer(delay, rule, plan_.ranks[rule]);
          violatedSlots[scope] = static_cast<uint8_t>(violating[scope].rule % kMaxRules);
        });
    numbers_.set(longest.delay, static_cast<int>(longest.rule),
                 static_cast<int>(longest.rule / kMaxRules));
    return violated;
  }

  // Counts a refused check, and charges the dry-run rules of `scopes` that allow it.
  template <class Counts>
  void refuse(Counts& counters, uint32_t scopes) noexcept {
    each(
        scopes_, [&](unsigned scope) { return applies_[scope]; },
        [&](unsigned scope, unsigned slot) {
          RuleCounts& counts = counters[scope];
          const bool refuses = (refused_[scope] >> slot & 1) != 0;
          const bool isDryRun = (plan_.dryRun[scope] >> slot & 1) != 0;
          ++counts.checked[slot];
          if (refuses) {
            ++(isDryRun ? counts.dryRunRefused : counts.refused)[slot];
          } else if (isDryRun && (scopes >> scope & 1) != 0) {
            double& used = states_[scope][1 + slot];
            used = charged(used, costOf(scope, slot));
          }
        });
  }

  // Takes the costs (sign 1) from the rules of `scopes` that are not on dry run, or gives them back
  // (sign -1).
  void settle(uint32_t scopes, int sign) noexcept {
    each(
        scopes_ & scopes,
        [&](unsigned scope) { return applies_[scope] & ~uint32_t{plan_.dryRun[scope]}; },
        [&](unsigned scope, unsigned slot) {
          double& used = states_[scope][1 + slot];
          const double sum = charged(used, sign * costOf(scope, slot));
          used = sum > 0 ? sum : 0.0;
        });
  }

 private:
  // Calls use(scope, slot) for the rules of `scopes` that rulesOf(scope) has a bit for.
  template <class RulesOf, class Use>
  static void each(uint32_t scopes, RulesOf&& rulesOf, Use&& use) noexcept {
    for (uint32_t left = scopes; left != 0; left &= left - 1) {
      const unsigned scope = lowestBit(left);
      uint32_t bits = static_cast<uint32_t>(rulesOf(scope));
      for (; bits != 0; bits &= bits - 1) use(scope, lowestBit(bits));
    }
  }

  void setAsked(unsigned scope, double* state, uint32_t refused) noexcept {
    scopes_ |= 1u << scope;
    states_[scope] = state;
    refused_[scope] = static_cast<uint16_t>(refused);
    if (refused != 0 && (refused & ~uint32_t{plan_.dryRun[scope]}) != 0) refusing_ |= 1u << scope;
  }

  // The rule with the longest delay among those offered; at equal delays the one with the lowest
  // rank.
  struct Longest {
    double delay = -1;
    unsigned rule = 0;
    unsigned rank = 0;

    void offer(double otherDelay, unsigned otherRule, unsigned otherRank) noexcept {
      if (!(otherDelay > delay || (otherDelay == delay && otherRank < rank))) return;
      delay = otherDelay;
      rule = otherRule;
      rank = otherRank;
    }
  };

  double costOf(unsigned scope, unsigned slot) const noexcept {
    return numbers_.costs[plan_.units[scope * kMaxRules + slot]];
  }

  bool hasCost(unsigned scope, uint32_t slots) const noexcept {
    for (uint32_t bits = slots; bits != 0; bits &= bits - 1) {
      if (costOf(scope, lowestBit(bits)) > 0) return true;
    }
    return false;
  }

  RELAY_LIMITER_NOINLINE void countDryRunRefused(unsigned scope,
                                                 RuleCounts& counts) const noexcept {
    for (uint32_t bits = refused_[scope] & plan_.dryRun[scope]; bits != 0; bits &= bits - 1) {
      ++counts.checked[lowestBit(bits)];
      ++counts.dryRunRefused[lowestBit(bits)];
    }
  }

  // The answer of an allowed check after it has been charged.
  RELAY_LIMITER_NOINLINE RuleAnswer findWarning() noexcept {
    double least = kInfinity;
    unsigned warning = 0;
    each(
        scopes_,
        [&](unsigned scope) {
          return applies_[scope] & plan_.warns[size_t{planIndex_} * plan_.scopes + scope];
        },
        [&](unsigned scope, unsigned slot) {
          const size_t at = plan_.rowOf(planIndex_, scope) + slot;
          const unsigned rule = scope * kMaxRules + slot;
          const double burst = plan_.bursts[at];
          const double share = (burst - states_[scope][1 + slot]) / burst;
          if (!(share < plan_.warnBelow[at]) || share > least) return;
          if (share == least && !(plan_.ranks[rule] < plan_.ranks[warning])) return;
          least = share;
          warning = rule;
        });
    if (!(least < kInfinity)) return RuleAnswer::kAllowed;
    numbers_.set(0, -1, -1);
    numbers_.warning = warning;
    return RuleAnswer::kWarned;
  }

  const RulePlan& plan_;
  const unsigned planIndex_;
  const uint16_t* const applies_;
  RuleNumbers& numbers_;
  uint32_t scopes_ = 0;
  uint32_t refusing_ = 0;
  double* states_[kMaxScopes];
  // The applying rules that refuse, those on dry run included.
  uint16_t refused_[kMaxScopes];
};

}  // namespace relay_limiter

// Rates refills records at the rates of the plan that asks. It remembers the last changes of rates,
// so that the time before a change counts at the rates before it, and when each slot got its rule.
// A state is an array of doubles: the instant of the last refill, then the used tokens of each
// slot. Counterpart of lib/engine/js/rules/rates.ts.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "../../memory/compiler.h"
#include "plan.h"

namespace relay_limiter {

// The numbers of a state for any number of rules.
struct RuleState {
  double numbers[1 + kMaxRules];

  // Of a peer that has used nothing.
  void reset(double now) noexcept {
    numbers[0] = now;
    std::fill_n(numbers + 1, kMaxRules, 0.0);
  }
};

class Rates {
 public:
  // `plan` outlives this.
  explicit Rates(const RulePlan& plan) noexcept : plan_(plan) {
    std::fill_n(&since_[0][0], kMaxScopes * kMaxRules, kNever);
  }

  // The time of the engine if the clock says `now`.
  double time(double now) noexcept {
    const double time = now < earliest_ ? earliest_ : now;
    if (time > latest_) latest_ = time;
    return time;
  }

  // Call this before `next` replaces the plan, `old`, whose rates it may take. `origins` has for
  // each next plan its index before, `added` for each scope the slots with a new rule. False if
  // there is no memory; then nothing has changed.
  bool update(RulePlan& old, const RulePlan& next, const uint16_t* origins, const uint16_t* added,
              double now) noexcept {
    NumberArray<uint16_t> plans[kRateChanges + 1];
    for (unsigned i = 0; i <= count_; ++i) {
      plans[i] = NumberArray<uint16_t>(next.plans);
      if (!plans[i]) return false;
    }
    for (unsigned p = 0; p < next.plans; ++p) {
      for (unsigned i = 0; i < count_; ++i) plans[i][p] = changes_[i].plans[origins[p]];
      plans[count_][p] = origins[p];
    }
    for (unsigned i = 0; i < count_; ++i) changes_[i].plans = std::move(plans[i]);
    if (areChanged(old, next, origins)) {
      NumberArray<uint16_t>& last = plans[count_];
      if (count_ == kRateChanges) std::move(changes_ + 1, changes_ + count_--, changes_);
      changes_[count_++] = {now, old.plans, std::move(old.rates), std::move(last)};
      lastUpdate_ = std::max(lastUpdate_, now);
    }
    uint16_t reused[kMaxScopes];
    for (unsigned i = 0; i < next.scopes; ++i) {
      // Only these slots can have had another rule.
      reused[i] = static_cast<uint16_t>(added[i] & ((1u << old.slots[i]) - 1));
    }
    if (std::any_of(reused, reused + next.scopes, [](uint16_t slots) { return slots != 0; }))
      reuse(reused);
    return true;
  }

  // Whether a refill of a state at `now` is only a matter of the seconds between, at the present
  // rates.
  bool isSimple(const double* state, double now) const noexcept {
    return now > state[0] && state[0] > lastUpdate_;
  }

  // Moves the time of a state to `now`, which is later, and returns the seconds between. The used
  // tokens are refilled after that: the other order would refill the same span again if the process
  // ends in between.
  static double startRefill(double* state, double now) noexcept {
    const double seconds = now - state[0];
    state[0] = now;
    keepOrderOfWrites();
    return seconds;
  }

  // Refills a state of `slots` slots for a plan. The time in it only moves forward.
  void refill(double* state, unsigned scope, unsigned slots, unsigned plan,
              double now) const noexcept {
    if (!(now > state[0])) return;
    if (state[0] <= lastUpdate_) return refillOld(state, scope, slots, plan, now);
    const double seconds = startRefill(state, now);
    const double* rates = plan_.rates.begin() + plan_.rowOf(plan, scope);
    for (unsigned slot = 0; slot < slots; ++slot) {
      state[1 + slot] = drained(state[1 + slot], seconds, rates[slot]);
    }
  }

  // The used tokens of a slot at `now`, if they were `used` after the last refill, `at`.
  double usedAt(double used, double at, unsigned scope, unsigned slot, unsigned plan,
                double now) const noexcept {
    return at <= since_[scope][slot] ? 0 : drainedAt(used, at, scope, slot, plan, now);
  }

  // Writes the used tokens of a state that a snapshot saves, or NaN. Whether there are any.
  bool save(const double* state, unsigned scope, unsigned slots, double now,
            double* used) const noexcept {
    bool any = false;
    std::fill_n(used, kMaxRules, std::numeric_limits<double>::quiet_NaN());
    for (unsigned slot = 0; slot < slots; ++slot) {
      if (!(secondsUntilUnused(state, scope, slot, now) > kSnapshotSeconds)) continue;
      used[slot] = state[1 + slot];
      any = true;
    }
    return any;
  }

  // A state as it was saved, last refilled at `at`.
  RuleState saved(const double* used, double at, unsigned scope, unsigned slots) const noexcept {
    RuleState state;
    state.reset(at);
    for (unsigned slot = 0; slot < slots; ++slot) {
      if (used[slot] == used[slot]) state.numbers[1 + slot] = used[slot];
    }
    settle(state.numbers, scope, slots);
    return state;
  }

  // Refills a state and a saved one at the rates of the base plan, and keeps the higher used tokens
  // in `state`.
  void merge(RuleState& saved, double* state, unsigned scope, unsigned slots,
             double now) const noexcept {
    refill(saved.numbers, scope, slots, 0, now);
    refill(state, scope, slots, 0, now);
    for (unsigned slot = 1; slot <= slots; ++slot)
      state[slot] = std::max(state[slot], saved.numbers[slot]);
  }

  // The seconds from `now` until a state has nothing used, at the rates of the base plan.
  double secondsUntilFresh(const double* state, unsigned scope, unsigned slots,
                           double now) const noexcept {
    double seconds = 0;
    for (unsigned slot = 0; slot < slots; ++slot) {
      seconds = std::max(seconds, secondsUntilUnused(state, scope, slot, now));
    }
    return seconds;
  }

  // The same for one slot. A slot without a rule has the rate 0, and what it has used does not
  // count.
  double secondsUntilUnused(const double* state, unsigned scope, unsigned slot,
                            double now) const noexcept {
    const double used = state[1 + slot];
    const double rate = plan_.rates[plan_.rowOf(0, scope) + slot];
    if (!(used > 0) || !(rate > 0)) return 0;
    return usedAt(used, state[0], scope, slot, 0, now) / rate;
  }

  // For a file that processes share: what it remembers, as numbers. `skipped` is the number of the
  // oldest changes that are left out.

  unsigned changes() const noexcept { return count_; }

  size_t historySize(unsigned skipped) const noexcept {
    size_t size = kHistoryHead + plan_.scopes * kMaxRules;
    for (unsigned i = skipped; i < count_; ++i) size += sizeOf(changes_[i].plansBefore);
    return size;
  }

  // At least the size after an update to `next`.
  size_t mostHistoryAfter(const RulePlan& next) const noexcept {
    const size_t added = 2 + ratesOf(plan_.plans) + next.plans;
    return historySize(0) + count_ * size_t{next.plans} + added;
  }

  void writeHistory(unsigned skipped, double* numbers) const noexcept {
    const auto write = [&](double number) { *numbers++ = number; };
    for (const double number : {static_cast<double>(count_ - skipped), lastUpdate_, earliest_})
      write(number);
    for (unsigned scope = 0; scope < plan_.scopes; ++scope) {
      for (unsigned slot = 0; slot < kMaxRules; ++slot) write(since_[scope][slot]);
    }
    for (unsigned i = skipped; i < count_; ++i) {
      const Change& change = changes_[i];
      write(change.at);
      write(change.plansBefore);
      numbers = std::copy_n(change.rates.begin(), ratesOf(change.plansBefore), numbers);
      for (unsigned p = 0; p < plan_.plans; ++p) write(change.plans[p]);
    }
  }

  // Takes over what another process remembers, and `next` as the plan, whose arrays it leaves as
  // they are. False, and nothing has changed, if the numbers make no sense or there is no memory.
  bool readHistory(const double* numbers, size_t size, const RulePlan& next) noexcept {
    const size_t slots = size_t{next.scopes} * kMaxRules;
    if (size < kHistoryHead + slots || !(numbers[0] >= 0 && numbers[0] <= kRateChanges))
      return false;
    Change changes[kRateChanges];
    const auto count = static_cast<unsigned>(numbers[0]);
    size_t at = kHistoryHead + slots;
    for (unsigned i = 0; i < count; ++i) {
      if (size - at < 2 || !(numbers[at + 1] >= 1 && numbers[at + 1] <= kMaxPlans)) return false;
      Change& change = changes[i];
      change.at = numbers[at];
      change.plansBefore = static_cast<unsigned>(numbers[at + 1]);
      at += 2;
      const size_t rates = change.plansBefore * slots;
      if (size - at < rates + next.plans) return false;
      change.rates = NumberArray<double>(rates);
      change.plans = NumberArray<uint16_t>(next.plans);
      if (!change.rates || !change.plans) return false;
      std::copy_n(numbers + at, rates, change.rates.begin());
      at += rates;
      for (unsigned p = 0; p < next.plans; ++p) {
        const double plan = numbers[at++];
        if (!(plan >= 0 && plan < change.plansBefore)) return false;
        change.plans[p] = static_cast<uint16_t>(plan);
      }
    }
    if (at != size) return false;
    std::move(changes, changes + count, changes_);
    count_ = count;
    lastUpdate_ = numbers[1];
    earliest_ = numbers[2];
    std::copy_n(numbers + kHistoryHead, slots, &since_[0][0]);
    return true;
  }

 private:
  // An update that changed a rate.
  struct Change {
    double at;
    // The number of plans and the rates before it.
    unsigned plansBefore;
    NumberArray<double> rates;
    // For each current plan: its index in `rates`.
    NumberArray<uint16_t> plans;
  };

  // The numbers of a history before those of slots and changes.
  static constexpr size_t kHistoryHead = 3;

  size_t ratesOf(unsigned plans) const noexcept { return size_t{plans} * plan_.scopes * kMaxRules; }
  // The numbers of a change in a history.
  size_t sizeOf(unsigned plansBefore) const noexcept {
    return 2 + ratesOf(plansBefore) + plan_.plans;
  }

  // Makes a saved state usable: if its last refill was before slots got other rules, it is refilled
  // up to then, without losing what it says of these rules.
  void settle(double* state, unsigned scope, unsigned slots) const noexcept {
    if (!(state[0] < earliest_)) return;
    for (unsigned slot = 0; slot < slots; ++slot) {
      state[1 + slot] = drainedAt(state[1 + slot], state[0], scope, slot, 0, earliest_);
    }
    state[0] = earliest_;
  }

  RELAY_LIMITER_NOINLINE void refillOld(double* state, unsigned scope, unsigned slots,
                                        unsigned plan, double now) const noexcept {
    const double at = state[0];
    startRefill(state, now);
    for (unsigned slot = 0; slot < slots; ++slot) {
      state[1 + slot] = usedAt(state[1 + slot], at, scope, slot, plan, now);
    }
  }

  double drainedAt(double used, double at, unsigned scope, unsigned slot, unsigned plan,
                   double now) const noexcept {
    double left = used;
    double from = at;
    for (unsigned i = 0; i < count_ && at <= lastUpdate_; ++i) {
      const double until = std::min(changes_[i].at, now);
      if (!(until > from)) continue;
      const size_t row = plan_.rowOf(changes_[i].plans[plan], scope);
      left = drained(left, until - from, changes_[i].rates[row + slot]);
      from = until;
    }
    return drained(left, elapsed(now, from), plan_.rates[plan_.rowOf(plan, scope) + slot]);
  }

  // Whether a rate of a plan differs from the one that the plan had before the update.
  static bool areChanged(const RulePlan& old, const RulePlan& next,
                         const uint16_t* origins) noexcept {
    const size_t size = size_t{next.scopes} * kMaxRules;
    for (unsigned p = 0; p < next.plans; ++p) {
      const double* rates = next.rates.begin() + p * size;
      if (!std::equal(rates, rates + size, old.rates.begin() + origins[p] * size)) return true;
    }
    return false;
  }

  // The slots get other rules. Records with a later refill have the state of these. If the clock
  // has stepped back, there may be records from a later time, and they are older than the rules
  // too.
  void reuse(const uint16_t* reused) noexcept {
    earliest_ = nextUp(latest_);
    for (unsigned scope = 0; scope < plan_.scopes; ++scope) {
      for (unsigned slot = 0; slot < kMaxRules; ++slot) {
        if ((reused[scope] >> slot & 1) != 0) since_[scope][slot] = latest_;
      }
    }
    lastUpdate_ = std::max(lastUpdate_, latest_);
  }

  // The smallest double above a finite one. std::nextafter would link the mathematical library.
  static double nextUp(double value) noexcept {
    if (value == 0) return std::numeric_limits<double>::denorm_min();
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = value > 0 ? bits + 1 : bits - 1;
    std::memcpy(&value, &bits, sizeof bits);
    return value;
  }

  const RulePlan& plan_;
  // The oldest first.
  Change changes_[kRateChanges];
  unsigned count_ = 0;
  // When an update gave a slot another rule; kNever if it had no other one.
  double since_[kMaxScopes][kMaxRules];
  // The instant of the last update that reused a slot or changed a rate.
  double lastUpdate_ = kNever;
  // The earliest time of the engine: later than each update that reused a slot.
  double earliest_ = kNever;
  // The latest time of the engine so far.
  double latest_ = kNever;
};

}  // namespace relay_limiter

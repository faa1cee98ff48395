// RulePlan is what a RuleLimiter decides by: rules, plans, actions and bans as numbers.
// lib/engine/rules.ts describes the arrays. It also has the rules' part of the arithmetic.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "../arithmetic.h"

namespace relay_limiter {

// lib/engine/rules.ts has the same numbers.
constexpr unsigned kMaxScopes = 8;
constexpr unsigned kMaxRules = 13;
constexpr unsigned kMaxUnits = 8;
// The maximum number of plans, with the base plan.
constexpr unsigned kMaxPlans = 256;
constexpr unsigned kRateChanges = 8;
// The maximum number of tokens that a rule counts as used.
constexpr double kMaxUsed = 9007199254740992;

constexpr uint8_t kDryRun = 1;
constexpr uint8_t kCountsViolation = 2;

// Math.floor and Math.ceil of a number of at least 0. Those of the standard library would link
// another library on some processors.
inline double floorOf(double number) noexcept {
  // From 2^52 on there are only integers.
  return number < 4503599627370496 ? static_cast<double>(static_cast<int64_t>(number)) : number;
}
inline double ceilOf(double number) noexcept {
  const double floor = floorOf(number);
  return floor < number ? floor + 1 : floor;
}

// The used tokens of a slot after so many seconds.
inline double drained(double used, double seconds, double rate) noexcept {
  const double left = used - seconds * rate;
  return left > 0 ? left : 0.0;
}

inline double charged(double used, double cost) noexcept {
  const double sum = used + cost;
  return sum < kMaxUsed ? sum : kMaxUsed;
}

// The seconds until a rule that has refused a cost allows it; infinity if it never does. A finite
// delay is rounded up, so that a check after the delay is never refused for a rounding error.
inline double ruleDelay(double used, double cost, double burst, double rate) noexcept {
  if (cost > burst) return kInfinity;
  const double delay = (used + cost - burst) / rate;
  const double scaled = delay * 1048576;
  return std::isfinite(scaled) ? (ceilOf(scaled) + 1) / 1048576 : delay;
}

// An array of zeros. Without memory it is empty, and false.
template <class Number>
class NumberArray {
 public:
  NumberArray() noexcept = default;
  explicit NumberArray(size_t size) noexcept : numbers_(new (std::nothrow) Number[size]()) {}

  explicit operator bool() const noexcept { return numbers_ != nullptr; }
  Number* begin() noexcept { return numbers_.get(); }
  const Number* begin() const noexcept { return numbers_.get(); }
  Number& operator[](size_t index) noexcept { return numbers_[index]; }
  const Number& operator[](size_t index) const noexcept { return numbers_[index]; }

 private:
  std::unique_ptr<Number[]> numbers_;
};

// How violations lead to bans in a scope.
struct BanPolicy {
  bool exists = false;
  double violations = 0;
  double withinSeconds = 0;
  // The lengths of the first, second ... ban; the last one repeats.
  NumberArray<double> seconds;
  size_t steps = 0;
  double jitter = 0;
  // Infinity: never.
  double forgetAfterSeconds = kInfinity;

  // The level that leads to bans, if it was `level` at an earlier instant.
  double levelAfter(double level, double secondsSince) const noexcept {
    return exists ? drained(level, secondsSince, violations / withinSeconds) : level;
  }

  // The ban level that is left so many seconds after the end of the last ban.
  double banLevelAfter(double banLevel, double secondsSince) const noexcept {
    if (!exists || !(forgetAfterSeconds < kInfinity)) return banLevel;
    const double left = banLevel - floorOf(secondsSince / forgetAfterSeconds);
    return left > 0 ? left : 0.0;
  }

  // The length of a ban at a ban level. `random` is from 0 to below 1.
  double length(double banLevel, double random) const noexcept {
    const size_t last = steps - 1;
    // In shared memory that is damaged a level may be negative or no number.
    const bool isInside = banLevel >= 0 && banLevel < static_cast<double>(last);
    const size_t step = isInside ? static_cast<size_t>(banLevel) : last;
    return seconds[step] * (1 + jitter * (2 * random - 1));
  }
};

struct RulePlan {
  unsigned scopes = 0;
  unsigned plans = 0;
  unsigned actions = 0;
  // By plan, action and scope.
  NumberArray<uint16_t> applies;
  // By plan and action: the plan, and the scopes with an applying rule.
  NumberArray<uint8_t> planOf;
  NumberArray<uint8_t> asks;
  // By plan, scope and slot; see rowOf().
  NumberArray<double> rates;
  NumberArray<double> bursts;
  NumberArray<double> warnBelow;
  // By plan and scope: the slots with a warning, without dry-run rules.
  NumberArray<uint16_t> warns;
  // By scope and slot.
  uint8_t units[kMaxScopes * kMaxRules] = {};
  uint8_t ranks[kMaxScopes * kMaxRules] = {};
  // By scope: the number of slots; the dry-run rules; the rules whose refusals are violations.
  uint8_t slots[kMaxScopes] = {};
  uint16_t dryRun[kMaxScopes] = {};
  uint16_t countsViolation[kMaxScopes] = {};
  BanPolicy bans[kMaxScopes];
  bool hasWarnings = false;

  unsigned programs() const noexcept { return plans * actions; }
  const uint16_t* appliesTo(unsigned program) const noexcept {
    return applies.begin() + size_t{program} * scopes;
  }

  // Where the numbers of a scope's rules begin in a plan.
  size_t rowOf(unsigned plan, unsigned scope) const noexcept {
    return (size_t{plan} * scopes + scope) * kMaxRules;
  }

  // False if there is no memory for the arrays.
  bool allocate() noexcept {
    const size_t rows = size_t{plans} * scopes;
    applies = NumberArray<uint16_t>(rows * actions);
    planOf = NumberArray<uint8_t>(programs());
    asks = NumberArray<uint8_t>(programs());
    rates = NumberArray<double>(rows * kMaxRules);
    bursts = NumberArray<double>(rows * kMaxRules);
    warnBelow = NumberArray<double>(rows * kMaxRules);
    warns = NumberArray<uint16_t>(rows);
    return applies && planOf && asks && rates && bursts && warnBelow && warns;
  }

  // Sets what follows from the arrays and the flags by scope and slot.
  void finish(const uint8_t* flags) noexcept {
    for (unsigned i = 0; i < scopes * kMaxRules; ++i) {
      const auto bit = static_cast<uint16_t>(1u << i % kMaxRules);
      if ((flags[i] & kDryRun) != 0) dryRun[i / kMaxRules] |= bit;
      if ((flags[i] & kCountsViolation) != 0) countsViolation[i / kMaxRules] |= bit;
    }
    for (unsigned program = 0; program < programs(); ++program) {
      unsigned bits = 0;
      for (unsigned scope = 0; scope < scopes; ++scope) {
        if (appliesTo(program)[scope] != 0) bits |= 1u << scope;
      }
      planOf[program] = static_cast<uint8_t>(program / actions);
      asks[program] = static_cast<uint8_t>(bits);
    }
    for (unsigned row = 0; row < plans * scopes; ++row) {
      unsigned bits = 0;
      for (unsigned slot = 0; slot < kMaxRules; ++slot) {
        if (warnBelow[size_t{row} * kMaxRules + slot] > 0) bits |= 1u << slot;
      }
      warns[row] = static_cast<uint16_t>(bits & ~dryRun[row % scopes]);
      hasWarnings = hasWarnings || warns[row] != 0;
    }
  }
};

}  // namespace relay_limiter

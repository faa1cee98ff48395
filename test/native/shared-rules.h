// What the tests of rules in shared files have in common: plans, keys and checks.
#pragma once

#include <functional>

#include "../../native/shared/rules.h"
#include "shared-limiters.h"

constexpr unsigned kScopes = 3;
constexpr unsigned kSingle = 2;
constexpr double kRate = 0.5;
constexpr double kBurst = 3;
constexpr uint32_t kMask = (1u << kScopes) - 1;

// Two keyed scopes and a single one, with so many rules each. Scope 0 bans.
inline RulePlan planOf(unsigned rules, unsigned plans = 1) {
  RulePlan plan;
  plan.scopes = kScopes;
  plan.plans = plans;
  plan.actions = 1;
  require(plan.allocate(), "there is memory for a plan");
  uint8_t flags[kScopes * kMaxRules];
  for (unsigned i = 0; i < kScopes * kMaxRules; ++i) {
    plan.ranks[i] = static_cast<uint8_t>(i);
    flags[i] = kCountsViolation;
  }
  for (unsigned i = 0; i < plans * kScopes * kMaxRules; ++i) {
    plan.rates[i] = i % kMaxRules < rules ? kRate : 0;
    plan.bursts[i] = i / kMaxRules % kScopes == kSingle ? 1000 : kBurst;
  }
  for (unsigned scope = 0; scope < kScopes; ++scope) {
    plan.slots[scope] = static_cast<uint8_t>(rules);
    for (unsigned p = 0; p < plans; ++p)
      plan.applies[p * kScopes + scope] = static_cast<uint16_t>((1u << rules) - 1);
  }
  BanPolicy& policy = plan.bans[0];
  policy.seconds = NumberArray<double>(1);
  require(bool{policy.seconds}, "there is memory for a policy");
  policy.exists = true;
  policy.steps = 1;
  policy.seconds[0] = 60;
  policy.violations = 3;
  policy.withinSeconds = 1e6;
  plan.finish(flags);
  return plan;
}

inline bool tryAttach(SharedRules& rules, const char* path, SharedError& error,
                      double maxPeers = 12, unsigned slots = 2) {
  const SharedRulesConfig config{1u << kSingle, maxPeers, "scopes", 6, "rules", 5};
  return rules.attach(path, kSecret, planOf(slots), config, error);
}

inline void attach(SharedRules& rules, const TestFile& file, double maxPeers = 12,
                   unsigned slots = 2) {
  SharedError error;
  if (!tryAttach(rules, file.path(), error, maxPeers, slots)) {
    std::fprintf(stderr, "%s\n", error.message);
    require(false, "a limiter attaches");
  }
  require(rules.readConfig(error) && rules.adopt(planOf(slots)), "a limiter adopts the rules");
}

// Peer n has the key n in scope 0 and the key n + 1000 in scope 1.
class Keys {
 public:
  explicit Keys(unsigned peer) : first_(peer), second_(peer + 1000) {
    keys_[0] = {first_.key(), nullptr, nullptr};
    keys_[1] = {second_.key(), nullptr, nullptr};
  }
  SharedRules::ScopeKey* keys() { return keys_; }

 private:
  TestKey first_, second_;
  SharedRules::ScopeKey keys_[2];
};

// Calls use(core, keys, scopes, time, numbers) for a peer, as a check does.
template <class Use>
RuleAnswer callPeer(SharedRules& rules, unsigned peer, double now, double cost, Use&& use) {
  RuleNumbers numbers = {};
  numbers.costs[0] = cost;
  Keys keys(peer);
  return rules.callByKeys(
      keys.keys(), rules.keyedScopes(kMask, 0, now), rules.askedSingles(kMask, 0), now,
      Patience::kShort,
      [&](SharedRules::Core& core, const SharedRules::ScopeKey* found, uint32_t scopes,
          double time) { return use(core, found, scopes, time, numbers); });
}

inline RuleAnswer check(SharedRules& rules, unsigned peer, double now, double cost = 1) {
  return callPeer(
      rules, peer, now, cost,
      [](SharedRules::Core& core, const SharedRules::ScopeKey* keys, uint32_t scopes, double time,
         RuleNumbers& numbers) { return core.check(keys, scopes, 0, time, numbers); });
}

inline RuleAnswer charge(SharedRules& rules, unsigned peer, double now, double cost) {
  return callPeer(
      rules, peer, now, cost,
      [](SharedRules::Core& core, const SharedRules::ScopeKey* keys, uint32_t scopes, double time,
         RuleNumbers& numbers) { return core.charge(keys, scopes, 0, time, numbers); });
}

// Shared tables on musl: two limiters of each of two classes share a file, a ban is seen, and the
// file is removed. scripts/test-runtimes.mjs compiles it as the addon is compiled, without the C++
// library, links it with musl and runs it.

#include <cstdio>
#include <cstring>

#include "../../native/shared/checks.h"
#include "../../native/shared/rules.h"

using namespace relay_limiter;

namespace {

constexpr Secret kSecret{1, 2};
constexpr double kNow = 1000;
constexpr char16_t kText[] = u"peer";

int failed(const char* what, const SharedError& error) {
  std::printf("%s: %s\n", what, error ? error.message : "failed");
  return 1;
}

Key key() { return {fingerprintOf(kText, 4, kSecret), kText, 4}; }

int removed(const char* path) {
  SharedError error;
  if (!SharedRegion::remove(path, error)) return failed("the file is removed", error);
  if (SharedRegion::remove(path, error) || error) return failed("it is gone", error);
  return 0;
}

int testRate(const char* path) {
  const RateLimiterConfig config{0.5, 2, 8, 1000};
  SharedLimiter<BasicRateLimiter> limiters[2] = {SharedLimiter<BasicRateLimiter>(config),
                                                 SharedLimiter<BasicRateLimiter>(config)};
  SharedError error;
  for (auto& limiter : limiters) {
    if (!limiter.attach(path, kSecret, error)) return failed("a limiter attaches", error);
  }
  unsigned attached = 0;
  limiters[0].region().eachAttached([&](uint32_t, double) { ++attached; });
  if (attached != 2) return failed("two limiters are attached", error);
  for (unsigned i = 0; i < 3; ++i) {
    Key peer = key();
    SharedBucketCheck<SharedLimiter<BasicRateLimiter>> check{1, kNow};
    const Verdict verdict = checkShared(limiters[i % 2], peer, check);
    if ((verdict == Verdict::kAllowed) != (i < 2)) return failed("they have one burst", error);
  }
  return removed(path);
}

RulePlan planOf() {
  RulePlan plan;
  plan.scopes = plan.plans = plan.actions = 1;
  if (!plan.allocate()) return plan;
  uint8_t flags[kMaxRules] = {kCountsViolation};
  for (unsigned i = 0; i < kMaxRules; ++i) plan.rates[i] = plan.bursts[i] = plan.warnBelow[i] = 0;
  plan.rates[0] = 1;
  plan.bursts[0] = 1;
  plan.slots[0] = 1;
  plan.applies[0] = 1;
  plan.finish(flags);
  return plan;
}

int testRules(const char* path) {
  SharedRules limiters[2];
  SharedError error;
  for (SharedRules& limiter : limiters) {
    const SharedRulesConfig config{0, 1000, "scopes", 6, "rules", 5};
    if (!limiter.attach(path, kSecret, planOf(), config, error) || !limiter.readConfig(error) ||
        !limiter.adopt(planOf())) {
      return failed("a limiter attaches", error);
    }
  }
  limiters[0].withPeer(Needs::kCurrentRules, 0, key(), kNow,
                       [](SharedRules::Scope& scope, const Key& peer, double now) {
                         scope.ban(peer, now + 60, now);
                       });
  SharedRules::ScopeKey keys[1] = {{key(), nullptr, nullptr}};
  RuleNumbers numbers = {};
  numbers.costs[0] = 1;
  const RuleAnswer answer = limiters[1].callByKeys(
      keys, 1, 0, kNow, Patience::kShort,
      [&](SharedRules::Core& core, const SharedRules::ScopeKey* found, uint32_t scopes,
          double time) { return core.check(found, scopes, 0, time, numbers); });
  if (answer != RuleAnswer::kBanned) return failed("the other one sees the ban", error);
  return removed(path);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const int result = testRate(arguments[1]) + testRules(arguments[1]);
  if (result == 0) std::puts("shared");
  return result;
}

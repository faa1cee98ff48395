// The rule limiter without memory: every allocation of every call fails in turn. A call that finds
// no memory changes nothing but refills and counts, and works when it is repeated. .ci/run builds
// it with sanitizers.

#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../../native/limiters/rules/limiter.h"
#include "require.h"
#include "test-memory.h"

using namespace relay_limiter;

namespace {

constexpr unsigned kScopes = 3;
constexpr unsigned kSingle = 2;
constexpr size_t kMaxPeers = 700;
constexpr Secret kSecret{1, 2};

// One plan and one action: two keyed scopes and a single one, each with so many rules of 2 tokens.
// Scope 0 bans.
RulePlan planOf(unsigned rules) {
  RulePlan plan;
  plan.scopes = kScopes;
  plan.plans = plan.actions = 1;
  require(plan.allocate(), "there is memory for a plan");
  uint8_t flags[kScopes * kMaxRules];
  for (unsigned i = 0; i < kScopes * kMaxRules; ++i) {
    const bool exists = i % kMaxRules < rules;
    const bool isSingle = i / kMaxRules == kSingle;
    plan.rates[i] = exists ? 1 : 0;
    plan.bursts[i] = isSingle ? 1e9 : 2;
    plan.ranks[i] = static_cast<uint8_t>(i);
    flags[i] = kCountsViolation;
  }
  for (unsigned scope = 0; scope < kScopes; ++scope) {
    plan.slots[scope] = static_cast<uint8_t>(rules);
    plan.applies[scope] = static_cast<uint16_t>((1u << rules) - 1);
  }
  BanPolicy& policy = plan.bans[0];
  policy.seconds = NumberArray<double>(1);
  require(bool{policy.seconds}, "there is memory for a policy");
  policy.exists = true;
  policy.steps = 1;
  policy.seconds[0] = 60;
  policy.violations = 2;
  policy.withinSeconds = 1000;
  plan.finish(flags);
  return plan;
}

class Peer {
 public:
  explicit Peer(unsigned number) : text_(u"peer-") {
    for (const char digit : std::to_string(number)) text_.push_back(static_cast<char16_t>(digit));
    for (auto& key : keys_)
      key = {{fingerprintOf(text_.data(), text_.size(), kSecret), text_.data(), text_.size()},
             nullptr,
             nullptr};
  }

  const RuleLimiter::ScopeKey* keys() const { return keys_; }
  const Key& key() const { return keys_[0].key; }

 private:
  std::u16string text_;
  RuleLimiter::ScopeKey keys_[kScopes];
};

class Test {
 public:
  Test() {
    require(limiter_.start(planOf(1), 1u << kSingle, double{kMaxPeers}), "a limiter starts");
    numbers_.costs[0] = 1;
    for (unsigned n = 0; n < 1500; ++n) peers_.emplace_back(new Peer(n));
  }

  // Calls `call` until it has all the memory it needs, with one allocation more each time.
  template <class Call>
  void withoutMemory(const Peer& peer, Call&& call) {
    for (unsigned n = 0;; ++n) {
      const std::vector<double> before = stateOf(peer);
      allocationsLeft = n;
      const bool hadMemory = call();
      allocationsLeft = kNoneFails;
      if (hadMemory) return;
      ++failures_;
      require(stateOf(peer) == before, "a call without memory changes nothing");
    }
  }

  RuleAnswer check(const Peer& peer) {
    return limiter_.check(peer.keys(), kMask, 0, limiter_.time(now_), numbers_);
  }

  // Fresh peers, refused ones, banned ones, and evictions.
  void checkAll() {
    for (const auto& peer : peers_) {
      for (unsigned i = 0; i < 4; ++i) {
        withoutMemory(*peer, [&] { return check(*peer) != RuleAnswer::kNoMemory; });
      }
    }
    require(sizeOf(0) == kMaxPeers && sizeOf(1) == kMaxPeers, "scopes are full");
  }

  void requireBans() {
    const Counters& counters = limiter_.scope(0).counters();
    require(counters.bansBegun == kMaxPeers, "the first peers are banned");
    require(counters.refusedNewcomers > 0 && counters.evictions == 0,
            "a banned peer is not evicted");
    require(areAllBanned(0), "a newcomer need not search among banned peers");
    letTimePass(1000);
    require(!areAllBanned(0), "a ban ends");
  }

  // Records of more rules: those of before move when they are used, the rest by a cleanup.
  void addRules(unsigned rules) {
    RulePlan next = planOf(rules);
    const uint16_t origins[1] = {0};
    const uint16_t added[kScopes] = {0, static_cast<uint16_t>((1u << rules) - 2), 0};
    withoutMemory(*peers_[0], [&] {
      return limiter_.update(std::move(next), origins, added, limiter_.time(now_));
    });
    for (unsigned n = 0; n < 300; ++n) {
      const double used = usedBy(*peers_[n], 1, 0);
      withoutMemory(*peers_[n], [&] {
        return limiter_.charge(peers_[n]->keys(), kMask, 0, limiter_.time(now_), numbers_) !=
               RuleAnswer::kNoMemory;
      });
      require(usedBy(*peers_[n], 1, 0) >= used && usedBy(*peers_[n], 1, rules - 1) >= 1,
              "a record keeps what was used");
    }
    allocationsLeft = 0;
    limiter_.cleanup(kInfinity, kInfinity, limiter_.time(now_));
    allocationsLeft = kNoneFails;
    const double used = usedBy(*peers_[650], 1, 0);
    limiter_.cleanup(kInfinity, kInfinity, limiter_.time(now_));
    require(sizeOf(1) == kMaxPeers && usedBy(*peers_[650], 1, 0) == used,
            "a cleanup moves records");
  }

  void restoreAndBan() {
    limiter_.clear();
    const double now = limiter_.time(now_);
    SavedRuleOffender saved{3, 0.5, 1, 30, 0, 5, {}};
    saved.used[0] = 2;
    for (unsigned n = 0; n < 700; ++n) {
      const Key& key = peers_[n]->key();
      withoutMemory(*peers_[n], [&] {
        return limiter_.scope(0).restore(key, saved, now, 16) == Verdict::kAllowed;
      });
      withoutMemory(*peers_[n],
                    [&] { return limiter_.scope(1).ban(key, now + 60, now) == Verdict::kAllowed; });
      SavedRuleDigest digest{key.fingerprint, 1, {}};
      digest.used[0] = 2;
      withoutMemory(*peers_[n], [&] {
        return limiter_.scope(1).restoreDigest(Secret{7, n % 3}, false, digest, now) ==
               Verdict::kAllowed;
      });
    }
    require(limiter_.scope(0).offenders().banSecondsLeft(peers_[5]->key().fingerprint, now) == 30,
            "bans are restored");
  }

  // All peers of scope 1 are banned.
  void endBan() {
    ScopeState& scope = limiter_.scope(1);
    const double now = limiter_.time(now_);
    require(areAllBanned(1), "all peers are banned");
    scope.offenders().endBan(peers_[3]->key().fingerprint, now);
    require(!areAllBanned(1), "a ban ends by hand");
    limiter_.cleanup(kInfinity, kInfinity, now);
    require(!areAllBanned(1), "a cleanup finds the peer without a ban");
    scope.removePeer(peers_[3]->key());
    require(areAllBanned(1), "only banned peers are left");
    letTimePass(60);
    limiter_.cleanup(kInfinity, kInfinity, limiter_.time(now_));
    require(!areAllBanned(1), "all bans are over");
  }

  void end() {
    limiter_.clear();
    require(limiter_.isEmpty() && limiter_.memoryBytes() == 0, "clear() returns all memory");

    std::printf("rules: %u calls had no memory\n", failures_);
    require(failures_ >= 40, "allocations of all kinds have failed");
  }

  void letTimePass(double seconds) { now_ += seconds; }

 private:
  static constexpr uint32_t kMask = (1u << kScopes) - 1;

  bool areAllBanned(unsigned i) {
    ScopeState& scope = limiter_.scope(i);
    return scope.offenders().areAllBanned(scope.records().size(), limiter_.time(now_));
  }

  size_t sizeOf(unsigned scope) { return limiter_.scope(scope).records().size(); }

  double usedBy(const Peer& peer, unsigned scope, unsigned slot) {
    double used[kScopes * kMaxRules] = {};
    limiter_.peek(peer.keys(), kMask, 0, limiter_.time(now_), numbers_, used);
    return used[scope * kMaxRules + slot];
  }

  // What a caller can see of a peer and of the sizes.
  std::vector<double> stateOf(const Peer& peer) {
    std::vector<double> state(kScopes * kMaxRules);
    state.push_back(static_cast<double>(
        limiter_.peek(peer.keys(), kMask, 0, limiter_.time(now_), numbers_, state.data())));
    for (unsigned i = 0; i < kSingle; ++i) {
      ScopeState& scope = limiter_.scope(i);
      const Fingerprint& fingerprint = peer.key().fingerprint;
      for (const size_t number :
           {scope.records().size(), scope.offenders().size(), scope.pending().size()}) {
        state.push_back(static_cast<double>(number));
      }
      state.push_back(static_cast<double>(scope.offenders().table().totalViolations()));
      state.push_back(static_cast<double>(scope.counters().evictions));
      state.push_back(scope.offenders().banSecondsLeft(fingerprint, now_));
      const Punishment* punishment = scope.offenders().find(fingerprint);
      state.push_back(punishment == nullptr ? -1 : punishment->level);
    }
    return state;
  }

  RuleLimiter limiter_;
  RuleNumbers numbers_ = {};
  std::vector<std::unique_ptr<Peer>> peers_;
  double now_ = 1000;
  unsigned failures_ = 0;
};

}  // namespace

// A ban level that is no level, as damaged shared memory may hold, has the length of the last ban.
void testBanLengths() {
  BanPolicy policy;
  policy.exists = true;
  policy.steps = 2;
  policy.seconds = NumberArray<double>(2);
  policy.seconds[0] = 5;
  policy.seconds[1] = 60;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double level : {-1.0, -1e300, nan, 1.0, 1e300}) {
    require(policy.length(level, 0) == 60, "the last length");
  }
  require(policy.length(0, 0) == 5, "the first length");
}

int main() {
  testBanLengths();
  Test test;
  test.checkAll();
  test.requireBans();
  test.checkAll();
  test.addRules(3);
  test.letTimePass(1);
  test.addRules(kMaxRules);
  test.restoreAndBan();
  test.endBan();
  test.end();
  std::puts("rules: passed");
}

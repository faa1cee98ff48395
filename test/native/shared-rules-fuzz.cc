// Rules in a shared table under operations and damage that libFuzzer makes up. .ci/run builds and
// runs it.
//
// Two limiters of one file take turns, so each finds what the other one has done, and rules that it
// has not adopted. Until the file is damaged, they must agree with a private limiter. After that,
// whatever they answer, no call may crash, hang or leave the file's memory.

#include <cmath>
#include <vector>

#include "../../native/shared/rule-snapshot.h"
#include "fuzz-input.h"
#include "shared-rules.h"

namespace {

// A table of one shard has one page, as a private table of so few peers. So both find the same
// records when they look for one to evict.
constexpr double kMostPeers = 300;
constexpr unsigned kKeys = 400;
constexpr unsigned kMostOperations = 2000;

// Rules as an update may replace them: how many there are in each scope, and how fast they are.
struct Rules {
  unsigned slots = 2;
  double speed = 1;
  uint16_t added[kMaxScopes] = {};

  RulePlan plan() const {
    RulePlan plan = planOf(slots);
    for (unsigned i = 0; i < kScopes * kMaxRules; ++i) plan.rates[i] *= speed;
    return plan;
  }
};

const TestKey& keyOf(unsigned number) {
  static const std::vector<std::unique_ptr<TestKey>> keys = [] {
    std::vector<std::unique_ptr<TestKey>> made;
    for (unsigned i = 0; i < kKeys; ++i) made.emplace_back(new TestKey(i));
    return made;
  }();
  return *keys[number % kKeys];
}

bool areSame(double a, double b) { return a == b || (a != a && b != b); }

class Run {
 public:
  explicit Run(Input input) : input_(input) {
    for (SharedRules& limiter : limiters_) attach(limiter, file_, kMostPeers);
    // Nothing is left behind if the fuzzer ends the process.
    unlink(file_.path());
    const SharedLayout& layout = limiters_[0].layout();
    require(
        limiters_[0].region().file().allocate(layout.namesAt(), layout.shards * layout.nameBytes),
        "there is room");
    require(private_.start(Rules().plan(), 1u << kSingle, kMostPeers), "a limiter starts");
  }

  void all() {
    for (unsigned n = 0; n < kMostOperations && !input_.empty(); ++n) one();
    compareAll();
    if (!isDamaged_) return;
    next().clear();
    for (unsigned i = 0; i < 50; ++i) check(i, 1);
    compareAll();
  }

 private:
  using ScopeKey = SharedRules::ScopeKey;

  // The limiter whose turn it is.
  SharedRules& next() { return limiters_[turn_ ^= 1]; }

  static bool adopt(SharedRules& limiter, const Rules& rules) {
    SharedError error;
    return limiter.readConfig(error) && limiter.adopt(rules.plan());
  }

  void one() {
    switch (input_.byte() % 16) {
      case 0:
        now_ += input_.byte() * input_.byte() / 500.0;
        break;
      case 1:
        removePeer(input_.twoBytes());
        break;
      case 2:
        cleanup(input_.byte() % 40);
        break;
      case 3:
        restore(input_.twoBytes());
        break;
      case 4:
        ban(input_.twoBytes());
        break;
      case 5:
        unban(input_.twoBytes());
        break;
      case 6:
        compareAll();
        break;
      case 7:
        if (input_.byte() % 8 == 0) clear();
        break;
      case 8:
        fill(input_.twoBytes(), input_.byte());
        break;
      case 9:
        damage();
        break;
      case 10:
        abandon();
        break;
      case 11:
        update();
        break;
      case 12:
        settle(input_.twoBytes());
        break;
      case 13:
        look(input_.twoBytes());
        break;
      default: {
        const unsigned key = input_.twoBytes();
        check(key, 1 + input_.byte() % 3);
      }
    }
  }

  // Calls use(core, keys, scopes, time, numbers) for both limiters. They have an equal answer and
  // equal numbers.
  template <class Use>
  void both(unsigned number, double cost, Use&& use) {
    ScopeKey keys[kSingle];
    for (unsigned i = 0; i < kSingle; ++i)
      keys[i] = {keyOf(number + 7 * i).key(), nullptr, nullptr};
    SharedRules& limiter = next();
    RuleNumbers numbers = argumentsOf(cost);
    const auto call = [&] {
      return limiter.callByKeys(
          keys, limiter.keyedScopes(kMask, 0, now_), limiter.askedSingles(kMask, 0), now_,
          Patience::kShort,
          [&](SharedRules::Core& core, const ScopeKey* found, uint32_t scopes, double time) {
            require(isDamaged_ || time == now_, "the time is that of the call");
            return use(core, found, scopes, time, numbers);
          });
    };
    RuleAnswer answer = call();
    for (unsigned i = 0; i < 2 && answer == RuleAnswer::kOutdated; ++i) {
      adopt(limiter, rules_);
      answer = call();
    }
    if (isDamaged_) return;
    RuleLimiter::ScopeKey own[kScopes] = {};
    for (unsigned i = 0; i < kSingle; ++i) own[i] = {keyOf(number + 7 * i).key(), nullptr, nullptr};
    RuleNumbers expected = argumentsOf(cost);
    require(use(private_, own, kMask, private_.time(now_), expected) == answer,
            "both limiters return the same");
    for (size_t i = 0; i < sizeof expected / sizeof(double); ++i) {
      require(areSame(reinterpret_cast<const double*>(&expected)[i],
                      reinterpret_cast<const double*>(&numbers)[i]),
              "both limiters have the same results");
    }
  }

  static RuleNumbers argumentsOf(double cost) {
    RuleNumbers numbers = {};
    numbers.costs[0] = cost;
    return numbers;
  }

  void check(unsigned number, double cost) {
    both(number, cost, [](auto& core, auto* keys, uint32_t scopes, double time, RuleNumbers& out) {
      return core.check(keys, scopes, 0, time, out);
    });
  }

  void look(unsigned number) {
    both(number, 1, [](auto& core, auto* keys, uint32_t scopes, double time, RuleNumbers& out) {
      return core.look(keys, scopes, 0, time, out);
    });
  }

  void settle(unsigned number) {
    const unsigned choice = input_.byte();
    both(number, 1 + choice % 5,
         [&](auto& core, auto* keys, uint32_t scopes, double time, RuleNumbers& out) {
           return choice % 2 == 0 ? core.charge(keys, scopes, 0, time, out)
                                  : core.refund(keys, scopes, 0, time, out);
         });
  }

  // Calls use(scope, key, time) for both limiters, which return equal numbers.
  template <class Use>
  void bothScopes(unsigned number, Use&& use) {
    const unsigned scope = number % kSingle;
    const Key key = keyOf(number / kSingle).key();
    SharedRules& limiter = next();
    double actual = 0;
    const auto call = [&] {
      return limiter.withPeer(
          Needs::kCurrentRules, scope, key, now_,
          [&](auto& state, const Key& found, double time) { actual = use(state, found, time); });
    };
    if (call() == Entered::kOutdated) {
      adopt(limiter, rules_);
      call();
    }
    if (isDamaged_) return;
    require(areSame(use(private_.scope(scope), key, private_.time(now_)), actual),
            "both scopes return the same");
  }

  void ban(unsigned number) {
    const double seconds = input_.byte() / 4.0;
    bothScopes(number, [&](auto& scope, const Key& key, double time) {
      return static_cast<double>(scope.ban(key, time + seconds, time));
    });
  }

  void unban(unsigned number) {
    bothScopes(number, [](auto& scope, const Key& key, double time) {
      return scope.offenders().endBan(key.fingerprint, time) ? 1.0 : 0.0;
    });
  }

  void removePeer(unsigned number) {
    bothScopes(number, [](auto& scope, const Key& key, double) {
      scope.removePeer(key);
      return 0.0;
    });
  }

  void restore(unsigned number) {
    const unsigned bits = input_.byte();
    SavedRuleOffender saved{bits % 9 * 1.0,
                            bits & 16 ? 0.0 : 1.5,
                            bits % 3 * 1.0,
                            std::nan(""),
                            std::nan(""),
                            input_.byte() / 2.0,
                            {}};
    if (bits & 32) saved.banSecondsLeft = bits & 64 ? kInfinity : input_.byte();
    std::fill_n(saved.used, kMaxRules, bits & 128 ? 2.5 : 0);
    bothScopes(number, [&](auto& scope, const Key& key, double time) {
      return static_cast<double>(scope.restore(key, saved, time, kMostLookedAt));
    });
  }

  void fill(unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; ++i) check(first + i, 1);
  }

  void cleanup(double idle) {
    SharedRules& limiter = next();
    bool isOutdated = false;
    uint64_t removed = limiter.cleanup(idle, kInfinity, now_, isOutdated);
    if (isOutdated) {
      adopt(limiter, rules_);
      removed += limiter.cleanup(idle, kInfinity, now_, isOutdated);
    }
    if (isDamaged_) return;
    require(private_.cleanup(idle, kInfinity, private_.time(now_)) == removed,
            "both remove the same peers");
  }

  void clear() {
    require(next().clear() == Entered::kYes || isDamaged_, "a table can be cleared");
    private_.clear();
  }

  // Other rates, and sometimes other rules in the slots.
  void update() {
    const unsigned bits = input_.byte();
    Rules rules;
    rules.slots = std::max(rules_.slots, 1 + bits % 5);
    rules.speed = 0.25 * (1 + (bits >> 3 & 7));
    const unsigned first = rules_.slots;
    for (unsigned i = 0; i < kScopes; ++i) {
      unsigned added = (1u << rules.slots) - (1u << first);
      if ((bits & 64) != 0) added |= 1u << i % rules.slots;
      rules.added[i] = static_cast<uint16_t>(added);
    }
    const uint16_t origins[1] = {0};
    SharedRules& limiter = next();
    SharedError error;
    const auto publish = [&] {
      return limiter.publish(rules.plan(), origins, rules.added, {"rules", 5}, now_, error);
    };
    Entered entered = publish();
    if (entered == Entered::kOutdated) {
      adopt(limiter, rules_);
      entered = publish();
    }
    require(isDamaged_ || (entered == Entered::kYes && !error), "an update is possible");
    require(private_.update(rules.plan(), origins, rules.added, private_.time(now_)), "memory");
    rules_ = rules;
    // An update moves the time by one unit in the last place, unless another limiter has made it.
    now_ += 1e-6;
  }

  void damage() {
    isDamaged_ = true;
    // As often the small parts as the large ones.
    const SharedLayout& layout = limiters_[0].layout();
    const size_t place = input_.twoBytes();
    const unsigned part = input_.byte();
    size_t at = 0;
    if (part % 4 == 0) {
      at = offsetof(SharedHeader, checksum) +
           place % (offsetof(SharedHeader, slots) + 128 - offsetof(SharedHeader, checksum));
    } else if (part % 4 == 1) {
      at = layout.headsAt() + place % (2 * layout.headBytes);
    } else if (part % 16 == 2) {
      at = layout.configAt() + place % 4 * kRuleConfigBytes / 2 + place % 200;
    } else {
      at = layout.pagesAt() + place * 8 % layout.pageBytes;
    }
    for (unsigned count = part >> 4; count > 0; --count, ++at) {
      limiters_[0].region().bytes()[at] = static_cast<unsigned char>(input_.byte());
    }
  }

  // As if a process had ended in a call: the next one repairs what it finds.
  void abandon() {
    for (uint32_t shard = 0; shard < 2; ++shard) {
      unsigned char* const head = limiters_[0].region().headAt(shard);
      const uint64_t word = uint64_t{kAttachSlots + 1} << 48 | 1;
      std::memcpy(head, &word, sizeof word);
    }
  }

  void compareAll() {
    for (unsigned i = 0; i < kSingle; ++i) compareScope(i);
    SharedRules& limiter = next();
    RuleOutcomes outcomes;
    const auto add = [&](const SharedRules::Core& core) { outcomes.add(core.outcomes()); };
    if (limiter.eachHead(add) == Entered::kOutdated) {
      adopt(limiter, rules_);
      outcomes = RuleOutcomes();
      limiter.eachHead(add);
    }
    if (isDamaged_) return;
    const RuleOutcomes& expected = private_.outcomes();
    require(outcomes.allowed == expected.allowed && outcomes.delayed == expected.delayed &&
                outcomes.banned == expected.banned,
            "both count the same outcomes");
  }

  void compareScope(unsigned index) {
    SharedRuleScope scope(next(), index);
    SharedStatistics statistics;
    BanList bans;
    size_t count = 0;
    scope.readStatistics(statistics);
    require(scope.readBans(bans, count, now_), "there is memory");
    SnapshotWalk<SharedRuleScope> walk;
    for (unsigned i = 0; i < 100 && !walk.isOver(); ++i) {
      require(walk.step(
                  scope, now_, 50, [](const Offender&, const SavedRuleOffender&) {},
                  [](const Secret*, const SavedRuleDigest&) {}),
              "there is memory for a snapshot");
    }
    if (isDamaged_) return;
    ScopeState& own = private_.scope(index);
    size_t expected = 0;
    own.offenders().eachBan(private_.time(now_),
                            [&](const Punishment&, const StoredKey&) { ++expected; });
    require(count == expected && bans.size() == expected, "both have the same bans");
    require(statistics.peers == own.records().size(), "both store the same peers");
    require(statistics.violations.value() == own.offenders().table().totalViolations(),
            "both count the same violations");
    require(std::memcmp(&statistics.counters, &own.counters(), sizeof(Counters)) == 0,
            "both count the same evictions");
  }

  TestFile file_;
  SharedRules limiters_[2];
  RuleLimiter private_;
  Rules rules_;
  Input input_;
  unsigned turn_ = 0;
  double now_ = 1000;
  bool isDamaged_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Run(Input(data, size)).all();
  return 0;
}

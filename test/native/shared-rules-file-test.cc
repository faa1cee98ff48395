// Rules in shared files that are damaged, have other rooms, or are of an earlier boot, and updates
// that fail. .ci/run builds it with sanitizers.

#include <sys/wait.h>

#include <random>
#include <vector>

#include "../../native/shared/rule-snapshot.h"
#include "shared-rules.h"

namespace {

constexpr double kNow = 1000;

ShardHead& headOf(SharedRules& rules, uint32_t shard) {
  return *reinterpret_cast<ShardHead*>(rules.region().headAt(shard));
}

// A head has a version of the rules that never was: the one of the header counts.
void testDamagedVersions() {
  for (const bool isOne : {true, false}) {
    TestFile file;
    SharedRules rules;
    attach(rules, file, 1000);
    for (uint32_t shard = 0; shard <= rules.shards(); ++shard) {
      if (isOne && shard != rules.shards()) continue;
      headOf(rules, shard).configVersion = 7 + shard;
      headOf(rules, shard).secretVersion = 7 + shard;
    }
    for (unsigned peer = 0; peer < 50; ++peer) {
      require(check(rules, peer, kNow) == RuleAnswer::kAllowed, "a check ends");
    }
    require(rules.secretVersion() == 0, "the version of the header counts");
    for (uint32_t shard = 0; shard <= rules.shards(); ++shard) {
      if (!isOne) require(headOf(rules, shard).configVersion == 1, "the head has its version");
    }
  }
}

// Publishes rules of so many slots, of which those in `added` are new.
Entered publish(SharedRules& rules, unsigned slots, uint16_t added, SharedError& error,
                const RuleText& text = {"other", 5}, unsigned plans = 1) {
  const uint16_t origins[kMaxPlans] = {};
  const uint16_t addedByScope[kMaxScopes] = {added, added, added};
  return rules.publish(planOf(slots, plans), origins, addedByScope, text, kNow, error);
}

// An update that fails changes nothing: the process goes on with its rules.
void testFailedUpdate() {
  TestFile file;
  SharedRules rules;
  attach(rules, file);
  const std::string text(kMostRuleText + 1, 'x');
  for (const unsigned plans : {1u, 3u}) {
    SharedError error;
    require(publish(rules, 3, 4, error, {text.data(), text.size()}, plans) == Entered::kYes &&
                std::strstr(error.message, "at most 1048576 bytes as text, got 1048577") != nullptr,
            "such an update fails");
    require(rules.plan().plans == 1 && rules.plan().slots[0] == 2, "the plan is as before");
    require(check(rules, 1, kNow) == RuleAnswer::kAllowed, "a check is decided");
    require(rules.isCurrent(), "the rules are those of the file");
  }
  SharedError error;
  require(publish(rules, 6, 4, error) == Entered::kYes && error, "more rules than there is room");
  require(check(rules, 1, kNow) == RuleAnswer::kAllowed, "a check is decided");
}

// A step of a snapshot ends when the rules change, and no peer is left out.
void testSnapshotDuringUpdate() {
  TestFile file;
  SharedRules rules;
  attach(rules, file, 1000);
  constexpr unsigned kOffenders = 40;
  constexpr unsigned kChecked = 400;
  for (unsigned peer = 0; peer < kChecked; ++peer) charge(rules, peer, kNow, 10);
  // Of peers that are banned nothing changes meanwhile.
  for (unsigned peer = 0; peer < kOffenders; ++peer) {
    for (unsigned i = 0; i < 3; ++i) check(rules, peer, kNow, 5);
  }
  SharedRules other;
  attach(other, file, 1000);
  SnapshotWalk<SharedRuleScope> walk;
  std::map<std::u16string, unsigned> offenders;
  size_t digests = 0;
  unsigned updates = 0;
  for (unsigned steps = 0; !walk.isOver(); ++steps) {
    require(steps < 1000, "a snapshot ends");
    SharedRuleScope scope(rules, 0);
    unsigned visited = 0;
    const auto useOffender = [&](const Offender& offender, const SavedRuleOffender&) {
      std::u16string name;
      offender.storedKey.read([&](const auto* text, size_t length) {
        for (size_t i = 0; i < length; ++i)
          name.push_back(static_cast<char16_t>(codeUnit(text[i])));
      });
      ++offenders[name];
      if (++visited != 10) return;
      SharedError error;
      require(publish(other, 2, 2, error) == Entered::kYes && !error, "the rules change");
      ++updates;
    };
    require(walk.step(scope, kNow, 1000, useOffender,
                      [&](const Secret*, const SavedRuleDigest&) { ++digests; }),
            "there is memory for a snapshot");
    if (scope.entered() == Entered::kYes) continue;
    require(scope.entered() == Entered::kOutdated && visited <= 10, "the step has ended");
    SharedError error;
    require(rules.readConfig(error) && rules.adopt(planOf(2)), "the rules are adopted");
  }
  require(updates == kOffenders / 10, "the rules have changed in several steps");
  require(offenders.size() == kOffenders, "each offender is visited");
  for (const auto& [name, count] : offenders) require(count == 1, "each is visited once");
  require(digests == kChecked - kOffenders, "each other peer is visited");
}

// A process with older rules gets no used tokens and no counts by the slots of others.
void testOutdated() {
  TestFile file;
  SharedRules rules, other;
  attach(rules, file);
  attach(other, file);
  SharedError error;
  require(publish(other, 2, 2, error) == Entered::kYes && !error, "the rules change");
  require(rules.eachHead([](SharedRules::Core&) {}) == Entered::kOutdated, "no counts");
  SharedRuleScope scope(rules, 0);
  scope.visitOffender(TestKey(1).key().fingerprint, kNow,
                      [](const Offender&, const SavedRuleOffender&) {});
  require(scope.entered() == Entered::kOutdated, "no offender");
  uint64_t cursor = 0;
  SharedRuleScope second(rules, 0);
  second.sweepSnapshotPass(
      0, cursor, kNow, 0, [](const Offender&, const SavedRuleOffender&) {},
      [](const Secret*, const SavedRuleDigest&) {});
  require(second.entered() == Entered::kOutdated && cursor == 0, "no other peer");
}

}  // namespace

int main() {
  testDamagedVersions();
  testFailedUpdate();
  testSnapshotDuringUpdate();
  testOutdated();
  std::puts("files of shared rules: passed");
}

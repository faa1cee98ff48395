// What is left of the table of a RuleLimiter after a reboot. .ci/run builds it with sanitizers.
//
// A reboot gives the machine another monotonic clock. The test writes the name of another boot into
// the file, and moves the wall clock of the file to let time pass.

#include <cmath>

#include "../../native/shared/rule-snapshot.h"
#include "shared-rules.h"

namespace {

constexpr double kMaxPeers = 1000;
constexpr double kPassed = 10;
// Of a ban that begins by itself.
constexpr double kBanSeconds = 60;
// Far more seconds than the test takes.
constexpr double kSlack = 45;
constexpr double kLongBan = 1e6;
constexpr unsigned kPeers = 20;
// As many units as no place for names has.
constexpr size_t kLong = 200;

void reboot(SharedRules& rules) {
  SharedHeader& header = rules.region().header();
  std::strcpy(header.founding.boot.text, "another boot");
  header.seal();
  header.wallOffset -= kPassed;
}

void ban(SharedRules& rules, unsigned scope, const Key& key, double seconds) {
  const double now = monotonicSeconds();
  const Entered entered =
      rules.withPeer(Needs::kCurrentRules, scope, key, now,
                     [&](SharedRules::Scope& state, const Key& found, double time) {
                       require(state.ban(found, time + seconds, time) == Verdict::kAllowed,
                               "a peer can be banned");
                     });
  require(entered == Entered::kYes, "a ban is possible");
}

double secondsLeft(SharedRules& rules, unsigned scope, const Key& key) {
  double seconds = -1;
  rules.withPeer(Needs::kAnyRules, scope, key, monotonicSeconds(),
                 [&](SharedRules::Scope& state, const Key& found, double time) {
                   seconds = state.offenders().banSecondsLeft(found.fingerprint, time);
                 });
  return seconds;
}

bool isAbout(double seconds, double expected) {
  return seconds <= expected && seconds > expected - kSlack;
}

Key longKey() {
  static const std::u16string text(kLong, u'x');
  return {fingerprintOf(text.data(), text.size(), kSecret), text.data(), text.size()};
}

// Peers 0 to 19 use up their tokens; those from 10 on are banned for that in scope 0. Bans by hand
// are in scope 1.
void fill(SharedRules& rules) {
  const double now = monotonicSeconds();
  for (unsigned peer = 0; peer < kPeers; ++peer) {
    const unsigned checks = peer < 10 ? 3 : 7;
    for (unsigned i = 0; i < checks; ++i) check(rules, peer, now);
  }
  require(check(rules, 9, now) == RuleAnswer::kDelayed, "no token is left");
  require(check(rules, 10, now) == RuleAnswer::kBanned, "violations lead to a ban");
  for (const auto& [peer, seconds] :
       {std::pair<unsigned, double>{100, kInfinity}, {101, kLongBan}, {102, kPassed / 2}}) {
    ban(rules, 1, TestKey(peer).key(), seconds);
  }
  ban(rules, 1, longKey(), kLongBan);
}

void requireKept(SharedRules& later) {
  require(later.secret() == kSecret, "the file has the same secret");
  for (unsigned peer = 10; peer < kPeers; ++peer) {
    require(isAbout(secondsLeft(later, 0, TestKey(peer).key()), kBanSeconds - kPassed),
            "a ban that a rule has begun goes on");
    require(check(later, peer, monotonicSeconds()) == RuleAnswer::kBanned, "a check finds it");
  }
  require(secondsLeft(later, 1, TestKey(100).key()) == kInfinity, "a ban for ever stays");
  require(isAbout(secondsLeft(later, 1, TestKey(101).key()), kLongBan - kPassed), "a ban by hand");
  require(secondsLeft(later, 1, TestKey(102).key()) == 0, "a ban is over by now");
  require(isAbout(secondsLeft(later, 1, longKey()), kLongBan - kPassed),
          "the ban of a key that is not stored stays");
}

// Which are as many in a scope, with their keys.
void requireBans(SharedRules& rules, unsigned scope, size_t inForce, size_t named) {
  SharedRuleScope state(rules, scope);
  BanList bans;
  size_t count = 0;
  require(state.readBans(bans, count, monotonicSeconds()), "bans are listed");
  require(count == inForce && bans.size() == named, "all bans in force are listed");
  SharedStatistics statistics;
  state.readStatistics(statistics);
  require(statistics.peers == inForce && statistics.violations.value() == 0,
          "nothing but bans is kept");
}

void testBans() {
  TestFile file;
  SharedRules old;
  attach(old, file, kMaxPeers);
  fill(old);
  reboot(old);
  SharedError error;
  {
    SharedRules early;
    require(!tryAttach(early, file.path(), error, kMaxPeers) &&
                std::strstr(error.message, "another monotonic clock") != nullptr,
            "a file that is in use by processes of another boot is refused");
  }
  old.detach();
  SharedRules later;
  attach(later, file, kMaxPeers);
  requireBans(later, 0, 10, 10);
  requireBans(later, 1, 3, 2);
  requireKept(later);
  for (unsigned peer = 0; peer < 9; ++peer) {
    require(check(later, peer, monotonicSeconds(), 3) == RuleAnswer::kAllowed,
            "others have all their tokens");
  }
  double single[1 + kMaxRules] = {};
  later.withSingles(
      Needs::kCurrentRules, monotonicSeconds(),
      [&](const SharedRules::Core& core, double time) { core.saveSingle(kSingle, time, single); });
  require(single[1] <= 27, "a single scope has used what checks have taken since");
  // And again.
  reboot(later);
  later.region().header().wallOffset -= kBanSeconds;
  later.detach();
  SharedRules last;
  attach(last, file, kMaxPeers);
  require(secondsLeft(last, 0, TestKey(10).key()) == 0, "each ban ends");
  require(isAbout(secondsLeft(last, 1, TestKey(101).key()), kLongBan - 2 * kPassed - kBanSeconds),
          "no reboot makes a ban longer");
}

// The limiter that joins first decides which rules there are, not an update before the reboot.
void testRules() {
  TestFile file;
  {
    SharedRules old;
    attach(old, file, kMaxPeers);
    fill(old);
    const uint16_t origins[1] = {0};
    const uint16_t added[kMaxScopes] = {4, 4, 4};
    SharedError error;
    require(old.publish(planOf(3), origins, added, {"other", 5}, monotonicSeconds(), error) ==
                    Entered::kYes &&
                !error,
            "an update");
    reboot(old);
  }
  SharedRules later;
  attach(later, file, kMaxPeers);
  require(std::string(later.config().text(), later.config().textBytes()) == "rules",
          "the rules of the one that joins");
  require(later.isFounding("rules", 5) && later.isCurrent(), "it has founded the file");
  requireKept(later);
}

// Whatever a file of an earlier boot contains, only sane bans are kept.
void testDamage() {
  for (unsigned seed = 0; seed < 20; ++seed) {
    TestFile file;
    {
      SharedRules old;
      attach(old, file, kMaxPeers);
      fill(old);
      const SharedLayout& layout = old.layout();
      uint64_t word = seed + 1;
      for (size_t at = layout.headsAt(); at + 8 <= layout.namesAt(); at += 8 * (1 + word % 50)) {
        word = word * 6364136223846793005u + 1442695040888963407u;
        std::memcpy(old.region().bytes() + at, &word, sizeof word);
      }
      reboot(old);
    }
    SharedRules later;
    attach(later, file, kMaxPeers);
    for (unsigned peer = 0; peer < 200; ++peer) check(later, peer, monotonicSeconds());
    require(later.clear() == Entered::kYes, "it can be cleared");
    require(check(later, 10, monotonicSeconds(), 3) == RuleAnswer::kAllowed, "and used");
  }
}

}  // namespace

int main() {
  testBans();
  testRules();
  testDamage();
  std::puts("shared rules, after a reboot: passed");
}

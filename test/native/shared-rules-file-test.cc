// Rules in shared files that are damaged, have other rooms, or are of an earlier boot, and updates
// that fail. .ci/run builds it with sanitizers.

#include <signal.h>
#if defined(__linux__)
#include <sys/inotify.h>
#endif
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "../../native/shared/rule-snapshot.h"
#include "shared-rules.h"
#include "small-disk.h"

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

// Calls everything, whatever the answer.
void useAll(SharedRules& rules) {
  for (unsigned peer = 0; peer < 300; ++peer) {
    const double now = kNow + peer;
    check(rules, peer, now);
    for (unsigned i = 0; i < 4; ++i) check(rules, peer, now, 5);
    charge(rules, peer, now, 2);
    callPeer(rules, peer, now, 1,
             [](SharedRules::Core& core, const SharedRules::ScopeKey* keys, uint32_t scopes,
                double time, RuleNumbers& numbers) {
               core.refund(keys, scopes, 0, time, numbers);
               return core.look(keys, scopes, 0, time, numbers);
             });
    const TestKey key(peer + 300);
    SavedRuleOffender saved{7, 1, 1, 50, std::nan(""), 1, {}};
    std::fill_n(saved.used, kMaxRules, 2.0);
    rules.withPeer(Needs::kCurrentRules, 0, key.key(), now,
                   [&](SharedRules::Scope& scope, const Key& found, double time) {
                     if (peer % 2 == 0) scope.ban(found, time + 99, time);
                     scope.restore(found, saved, time, kMostLookedAt);
                     scope.offenders().endBan(found.fingerprint, time);
                     if (peer % 3 == 0) scope.removePeer(found);
                   });
  }
  SharedStatistics statistics;
  BanList bans;
  size_t count = 0;
  SharedRuleScope scope(rules, 0);
  scope.readStatistics(statistics);
  require(scope.readBans(bans, count, kNow), "there is memory");
  SnapshotWalk<SharedRuleScope> walk;
  while (!walk.isOver()) {
    require(walk.step(
                scope, kNow, 100, [](const Offender&, const SavedRuleOffender&) {},
                [](const Secret*, const SavedRuleDigest&) {}),
            "there is memory for a snapshot");
  }
  bool isOutdated = false;
  rules.cleanup(5, kInfinity, kNow + 500, isOutdated);
  require(!isOutdated && scope.entered() == Entered::kYes, "every shard can be used");
}

// Everything behind the header is damaged.
void testRandomDamage() {
  for (unsigned seed = 0; seed < 10; ++seed) {
    TestFile file;
    SharedRules rules;
    attach(rules, file, 1000);
    std::mt19937_64 random(seed);
    const SharedLayout& layout = rules.layout();
    for (size_t at = layout.headsAt(); at < layout.namesAt(); at += 8) {
      const uint64_t word = random() & (at % 3 == 0 ? 0x00ff00ff00ff00ffu : ~uint64_t{0});
      std::memcpy(rules.region().bytes() + at, &word, sizeof word);
    }
    for (uint32_t shard = 0; shard <= rules.shards(); ++shard) {
      if (seed % 2 != 0) headOf(rules, shard).lock.unlock();
    }
    useAll(rules);
    require(rules.clear() == Entered::kYes, "the table can be cleared");
    useAll(rules);
  }
}

// All groups of all pages but one are full, and their counts are about to wrap around: what is
// inserted is not found. `size` is that of all tables; one of these has no room at all. Their order
// in each scope: records, offenders, punishments.
void testLostRecords(size_t size, size_t fullTable) {
  TestFile file;
  SharedRules rules;
  attach(rules, file, 1000);
  const SharedLayout& layout = rules.layout();
  constexpr size_t kPage = sizeof(Page<Offender>);
  static_assert(sizeof(Page<RuleRecord<5>>) == kPage && sizeof(Page<Punishment>) == kPage,
                "all pages are alike");
  constexpr size_t kGroup = sizeof(Group<Offender>);
  for (size_t at = 0; at < layout.shards * layout.pageBytes; at += kGroup) {
    unsigned char* const group = rules.region().bytes() + layout.pagesAt() + at;
    const bool isFull = at % kPage / kGroup != 7 || at / kPage / layout.shards == fullTable;
    std::memset(group, isFull ? 1 : 0, Group<Offender>::kSlots);
    std::memset(group + sizeof(Tags), 0xff, sizeof(uint16_t));
  }
  for (uint32_t shard = 0; shard < rules.shards(); ++shard) {
    unsigned char* const head = rules.region().headAt(shard);
    for (size_t at = roundUp(sizeof(ShardHead), 8); at < layout.headBytes; at += 8)
      std::memcpy(head + at, &size, sizeof size);
  }
  useAll(rules);
}

void testDamage() {
  testRandomDamage();
  for (const size_t size : {size_t{0}, size_t{1}, ~size_t{0}}) {
    for (const size_t fullTable : {size_t{2}, size_t{3}, size_t{6}})
      testLostRecords(size, fullTable);
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

// Rules for which there is no room are an error with the path, the needed and the free bytes.
void testUpdateOnFullDisk() {
  onSmallDisk(size_t{16} << 20, [](const std::string&) {
    TestFile file;
    SharedRules rules;
    attach(rules, file);
    const std::string filler = fillDisk(file.path());
    const std::string text(100'000, 'x');
    const auto update = [&](SharedError& error) {
      return publish(rules, 3, 4, error, {text.data(), text.size()}) == Entered::kYes;
    };
    SharedError error;
    require(update(error) && error && std::strcmp(error.code, "ERR_LIMITER_MEMORY") == 0 &&
                std::strstr(error.message, file.path()) != nullptr &&
                std::strstr(error.message, "bytes, 0 are free") != nullptr,
            "such an update fails");
    require(rules.isCurrent() && rules.plan().slots[0] == 2, "the rules are as before");
    require(check(rules, 1, kNow) == RuleAnswer::kAllowed, "a check is decided");
    unlink(filler.c_str());
    SharedError unset;
    require(update(unset) && !unset, "the rules fit again");
  });
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

void beginAnotherBoot(SharedRules& rules) {
  SharedHeader& header = rules.region().header();
  std::strcpy(header.founding.boot.text, "another boot");
  header.seal();
}

// A file of an earlier boot gets the rules of the first limiter that joins, whatever room they
// need, and keeps the bans that are intact.
void testAnotherBoot() {
  for (const unsigned slots : {1u, 2u, 6u}) {
    TestFile file;
    constexpr unsigned kBanned = 30;
    {
      SharedRules old;
      attach(old, file, 1000, 2);
      const double now = monotonicSeconds();
      for (unsigned peer = 0; peer < kBanned; ++peer) {
        old.withPeer(
            Needs::kCurrentRules, 0, TestKey(peer).key(), now,
            [&](SharedRules::Scope& scope, const Key& key, double time) {
              scope.ban(key, time + 100, time);
              Punishment& punishment = *scope.offenders().find(key.fingerprint);
              if (peer == 1) punishment.banEnd = kInfinity;
              if (peer == 2) ++punishment.order;
              // The key is stored behind the lock of its shard.
              if (peer != 4) return;
              const Offender* offender = scope.offenders().table().find(key.fingerprint);
              scope.offenders().table().keyOf(*offender).read([](const auto* text, size_t) {
                ++*const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(text));
              });
            });
      }
      SharedRules other;
      SharedError error;
      beginAnotherBoot(old);
      require(!tryAttach(other, file.path(), error, 1000, slots) &&
                  std::strstr(error.message, "another monotonic clock") != nullptr,
              "processes of two boots share no file");
    }
    SharedRules later;
    attach(later, file, 1000, slots);
    require(later.roomOf(0) == SharedRuleRecords::roomFor(slots), "records have the room needed");
    BanList bans;
    size_t count = 0;
    SharedRuleScope scope(later, 0);
    require(scope.readBans(bans, count, monotonicSeconds()), "there is memory");
    require(count == kBanned - 2 && bans.size() == kBanned - 3,
            "a damaged ban is dropped, and a damaged key");
    for (size_t i = 0; i < bans.size(); ++i)
      require(bans[i].secondsLeft > 0 && bans[i].secondsLeft <= 100, "the time of a ban goes on");
    require(check(later, 900, monotonicSeconds()) == RuleAnswer::kAllowed, "a check is decided");
    // A limiter with other rules joins, and adopts those of the file.
    SharedRules other;
    SharedError error;
    require(tryAttach(other, file.path(), error, 1000, 2) && other.readConfig(error) &&
                other.adopt(planOf(slots)),
            "others join");
    require(other.roomOf(0) == later.roomOf(0), "they find the same records");
  }
}

void testDisagreement() {
  TestFile file;
  SharedRules rules;
  attach(rules, file);
  SharedHeader& header = rules.region().header();
  const auto requireRefusal = [&](const char* text) {
    header.seal();
    SharedRules other;
    SharedError error;
    if (!tryAttach(other, file.path(), error) && std::strstr(error.message, text) != nullptr)
      return;
    std::fprintf(stderr, "%s, not %s\n", error.message, text);
    require(false, "a limiter that disagrees does not join");
  };
  SharedLayout& layout = header.founding.layout;
  layout.rules.rooms[1] = 7;
  requireRefusal("its records of scope 1 have room for 7 rules, not 5");
  layout.rules.rooms[1] = 5;
  layout.rules.singleScopes = 2;
  requireRefusal("its set of single scopes is 2, not 4");
  layout.rules.singleScopes = 4;
  layout.pageBytes -= 64;
  layout.nameBytes += 64;
  header.founding.bytes = layout.totalBytes();
  if (rules.region().file().size() == layout.totalBytes())
    requireRefusal("its size of a shard's pages is");
}

// Nobody finds no file while one of an earlier boot is replaced.
void testReplacement() {
#if defined(__linux__)
  TestFile file;
  {
    SharedRules old;
    attach(old, file);
    beginAnotherBoot(old);
  }
  const std::string path = file.path();
  const size_t slash = path.rfind('/');
  const int events = inotify_init1(IN_NONBLOCK);
  require(inotify_add_watch(events, path.substr(0, slash).c_str(),
                            IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM) != -1,
          "a folder is watched");
  SharedRules later;
  attach(later, file);
  bool isReplaced = false;
  alignas(inotify_event) char buffer[65536];
  for (ssize_t size; (size = read(events, buffer, sizeof buffer)) > 0;) {
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof *event + event->len);
      if (event->len == 0 || path.substr(slash + 1) != event->name) continue;
      require(event->mask == IN_MOVED_TO, "a path is never without a file");
      isReplaced = true;
    }
  }
  close(events);
  require(isReplaced, "the file is replaced");
#endif
}

// A process that ended while it removed a file does not keep others from the path.
void testKilledRemover() {
  TestFile file;
  SharedRules old;
  attach(old, file);
  check(old, 1, kNow);
  old.region().header().isRemoved.store(1);
  SharedRules later;
  attach(later, file);
  require(old.region().isDetached() && !later.region().isDetached(), "newcomers have another file");
}

// While a call waits for a head that is locked for long, it keeps no other.
void testLockAll() {
  constexpr uint32_t kCount = 5;
  bool isLocked[kCount] = {};
  unsigned refusals = 0;
  unsigned waits = 0;
  const auto locked = [&] { return std::count(isLocked, isLocked + kCount, true); };
  const auto unlock = [&](uint32_t i) { isLocked[i] = false; };
  const auto accept = [](uint32_t) { return true; };
  const auto all = [&](unsigned mostRefusals, bool isStalled) {
    refusals = waits = 0;
    return lockAll(
        kCount, Patience::kShort,
        [&](uint32_t i, Patience patience) {
          require(!isLocked[i] && (patience == Patience::kBrief || locked() == 0),
                  "a call that waits for long has no lock");
          if (patience == Patience::kShort && i == 3) {
            ++waits;
            if (isStalled) return false;
          } else if (i == 3 && refusals < mostRefusals) {
            ++refusals;
            return false;
          }
          return isLocked[i] = true;
        },
        unlock, accept);
  };
  require(all(0, false) == LockedAll::kYes && locked() == kCount, "all are locked");
  std::fill_n(isLocked, kCount, false);
  require(all(2, false) == LockedAll::kYes && locked() == kCount && waits == 2,
          "it waits for the locked one");
  std::fill_n(isLocked, kCount, false);
  require(all(1, true) == LockedAll::kStalled && locked() == 0, "or gives up");
  const auto declines = [&](uint32_t i) { return i < 2; };
  const auto lock = [&](uint32_t i, Patience) { return isLocked[i] = true; };
  require(lockAll(kCount, Patience::kLong, lock, unlock, declines) == LockedAll::kDeclined &&
              locked() == 0,
          "it ends at one that is not accepted");
}

// A child locks a head and stops.
pid_t stopWith(const TestFile& file, uint32_t shard, double maxPeers) {
  const pid_t child = fork();
  if (child == 0) {
    SharedRules own;
    attach(own, file, maxPeers);
    own.withShard(Needs::kAnyRules, Patience::kLong, shard, 0, [](double) { raise(SIGSTOP); });
    _exit(0);
  }
  int status;
  require(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "a child stops");
  return child;
}

// A stalled check names the scope that it waits for, and an update stalls nothing else.
void testStalled() {
  constexpr double kMaxPeers = 1000;
  TestFile file;
  SharedRules rules;
  attach(rules, file, kMaxPeers);
  const auto shardOf = [&](unsigned key) {
    return rules.region().shardOf(TestKey(key).key().fingerprint);
  };
  // The keys of this peer lie in different shards, and those of the other in none of them or in
  // the same one.
  unsigned peer = 0;
  while (shardOf(peer) == shardOf(peer + 1000)) ++peer;
  for (unsigned scope = 0; scope < kScopes; ++scope) {
    const uint32_t shard = scope == kSingle ? rules.shards() : shardOf(peer + 1000 * scope);
    const pid_t child = stopWith(file, shard, kMaxPeers);
    require(check(rules, peer, kNow) == RuleAnswer::kStalled, "the check is stalled");
    require(rules.stalledScope() == scope, "the scope is named");
    require(rules.stalledBy() == static_cast<uint32_t>(child), "the process is named");
    SharedError error;
    require(publish(rules, 3, 4, error) == Entered::kStalled && !error, "an update is stalled");
    for (uint32_t i = 0; i <= rules.shards(); ++i) {
      const bool isFree = headOf(rules, i).lock.holder() == 0;
      require(isFree == (i != shard), "nothing else is locked");
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    require(check(rules, peer, kNow) != RuleAnswer::kStalled, "the shard can be used");
  }
}

}  // namespace

int main() {
  testAnotherBoot();
  testDisagreement();
  testReplacement();
  testKilledRemover();
  testLockAll();
  testStalled();
  testDamagedVersions();
  testDamage();
  testFailedUpdate();
  testUpdateOnFullDisk();
  testSnapshotDuringUpdate();
  testOutdated();
  std::puts("files of shared rules: passed");
}

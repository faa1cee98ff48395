// Ends a process at every write of every operation of a shared RuleLimiter, and lets another one
// recover.
//
// A child attaches to the file, which it may only read: a write is a fault. The handler copies the
// content, which is what others would find if the process ended there, allows the write, and
// executes one instruction (the trap flag of x86); after it the file may only be read again. So the
// test stops at each write, and at no other instruction. The child ends, so that its locks can be
// taken over. The parent puts each copy in place, uses the file, and compares it with the content
// before the operation and with that after a complete one.
//
// On other processors only the contents before and after are used. .ci/run builds this with
// sanitizers.

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#if defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cmath>
#include <vector>

#include "shared-rules.h"

namespace {

constexpr double kNow = 1000;
// When used tokens are compared: before all are refilled.
constexpr double kLater = kNow + 0.125;
constexpr unsigned kPeers = 12;

class Copies {
 public:
  explicit Copies(size_t bytes) : bytes_(bytes) {
    constexpr int kFlags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory =
        mmap(nullptr, kHead + bytes_ * kMost, PROT_READ | PROT_WRITE, kFlags, /*fd=*/-1, 0);
    require(memory != MAP_FAILED, "there is memory for copies");
    memory_ = static_cast<unsigned char*>(memory);
  }
  ~Copies() { munmap(memory_, kHead + bytes_ * kMost); }

  size_t count() const { return *reinterpret_cast<size_t*>(memory_); }
  const unsigned char* at(size_t index) const { return memory_ + kHead + index * bytes_; }

  void add(const unsigned char* content) {
    size_t& count = *reinterpret_cast<size_t*>(memory_);
    if (count == kMost) _exit(3);
    std::memcpy(memory_ + kHead + count * bytes_, content, bytes_);
    ++count;
  }

  // Drops the last copy, if the content has not changed near `offset` since.
  void dropIfSame(const unsigned char* content, size_t offset) {
    constexpr size_t kNear = 64;
    size_t& count = *reinterpret_cast<size_t*>(memory_);
    const size_t begin = offset < kNear ? 0 : offset - kNear;
    const size_t end = std::min(offset + kNear, bytes_);
    if (std::memcmp(at(count - 1) + begin, content + begin, end - begin) == 0) --count;
  }

 private:
  static constexpr size_t kHead = 4096;
  static constexpr size_t kMost = 4000;

  const size_t bytes_;
  unsigned char* memory_;
};

Copies* copies = nullptr;
unsigned char* watched = nullptr;
size_t watchedBytes = 0;
// Of the last write.
size_t written = 0;

void protect(int protection) { mprotect(watched, watchedBytes, protection); }

#if defined(__x86_64__)
// Before a write to the file.
void onFault(int, siginfo_t* info, void* context) {
  const auto* address = static_cast<unsigned char*>(info->si_addr);
  if (address < watched || address >= watched + watchedBytes) _exit(4);
  copies->add(watched);
  written = static_cast<size_t>(address - watched);
  protect(PROT_READ | PROT_WRITE);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= 0x100;
}

// After it.
void onTrap(int, siginfo_t*, void* context) {
  copies->dropIfSame(watched, written);
  protect(PROT_READ);
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~0x100ll;
}
#endif

// Calls use() and copies the content before each of its writes.
void watch(SharedRegion& region, size_t bytes, const std::function<void()>& use) {
  watched = region.bytes();
  watchedBytes = bytes;
#if defined(__x86_64__)
  struct sigaction action = {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = onFault;
  sigaction(SIGSEGV, &action, nullptr);
  action.sa_sigaction = onTrap;
  sigaction(SIGTRAP, &action, nullptr);
  protect(PROT_READ);
#else
  copies->add(watched);
#endif
  use();
  protect(PROT_READ | PROT_WRITE);
  copies->add(watched);
}

// What a scope stores of a peer.
struct Stored {
  bool hasRecord = false;
  double numbers[3] = {kNever, 0, 0};
  uint64_t violations = 0;
  bool hasPunishment = false;
  double level = 0;
  double levelAt = kNever;
  double banLevel = 0;
  double banEnd = kNever;

  auto all() const {
    return std::tie(hasRecord, numbers[0], numbers[1], numbers[2], violations, hasPunishment, level,
                    levelAt, banLevel, banEnd);
  }
  bool operator==(const Stored& other) const { return all() == other.all(); }

  // A peer without a record has used nothing.
  double usedOf(unsigned slot) const {
    if (!hasRecord) return 0;
    return std::max(0.0, numbers[1 + slot] - std::max(0.0, kLater - numbers[0]) * kRate);
  }
};

using Content = std::map<std::tuple<unsigned, uint64_t, uint64_t>, Stored>;

// Reads all scopes and requires that they are consistent.
Content contentOf(SharedRules& rules) {
  Content content;
  for (uint32_t shard = 0; shard < rules.shards(); ++shard) {
    const Entered entered =
        rules.withShard(Needs::kAnyRules, Patience::kLong, shard, 0, [&](double) {
          rules.eachKeyed([&](unsigned i) {
            auto& scope = rules.scope(i);
            auto& offenders = scope.offenders();
            size_t records = 0;
            size_t offending = 0;
            size_t punished = 0;
            uint64_t violations = 0;
            uint64_t cursor = 0;
            scope.records().visit(
                0, cursor, [&](const Fingerprint& fingerprint, const double* state, unsigned room) {
                  require(room == 5, "records have room for more rules");
                  require(scope.records().find(fingerprint) == state, "every record is found");
                  ++records;
                  Stored& peer = content[{i, fingerprint.low, fingerprint.high}];
                  peer.hasRecord = true;
                  std::copy_n(state, 3, peer.numbers);
                  if (const Offender* offender = offenders.table().find(fingerprint)) {
                    ++offending;
                    peer.violations = offender->violations;
                    violations += offender->violations;
                  }
                  if (const Punishment* punishment = offenders.find(fingerprint)) {
                    ++punished;
                    peer.hasPunishment = true;
                    peer.level = punishment->level;
                    peer.levelAt = punishment->levelAt;
                    peer.banLevel = punishment->banLevel;
                    peer.banEnd = punishment->banEnd;
                    const bool isInForce = kNow < punishment->banEnd;
                    require(!isInForce || offenders.banSecondsLeft(fingerprint, kNow) > 0,
                            "a ban in force is found");
                  }
                });
            require(records == scope.records().size(), "a scope counts its records");
            require(offending == offenders.size(), "each offender has a record");
            require(violations == offenders.table().totalViolations(),
                    "the violations are counted");
            size_t bans = 0;
            offenders.eachBan(kNever, [&](const Punishment&, const StoredKey&) { ++bans; });
            require(bans <= punished, "each punishment has an offender");
          });
        });
    require(entered == Entered::kYes, "a shard can be locked");
  }
  Stored& single = content[{kSingle, 0, 0}];
  single.hasRecord = true;
  const Entered entered =
      rules.withSingles(Needs::kAnyRules, kNow, [&](const SharedRules::Core& core, double time) {
        double numbers[1 + kMaxRules];
        core.saveSingle(kSingle, time, numbers);
        single.numbers[0] = time - numbers[0];
        for (unsigned i = 1; i <= 2; ++i) {
          single.numbers[i] = std::isnan(numbers[i]) ? 0 : numbers[i];
        }
      });
  require(entered == Entered::kYes, "the single scopes can be locked");
  return content;
}

bool isKept(const Stored& before, const Stored& complete, const Stored& after, double cost) {
  const auto fails = [](const char* what) {
    std::fprintf(stderr, "%s\n", what);
    return false;
  };
  if (before == complete) return after == before || fails("another peer has changed");
  if (after.violations != before.violations && after.violations != complete.violations)
    return fails("violations are lost");
  for (unsigned slot = 0; slot < 2; ++slot) {
    const double least = std::min(before.usedOf(slot), std::max(0.0, complete.usedOf(slot) - cost));
    if (after.usedOf(slot) < least - 1e-9) return fails("a bucket is fuller");
  }
  const bool stays = before.hasRecord && complete.hasRecord;
  if (stays && !after.hasRecord) return fails("a record is lost");
  if (stays && before.banEnd > kNow && complete.banEnd > kNow && !(after.banEnd > kNow))
    return fails("a ban is lost");
  if (after.banEnd > kNow && after.banEnd != before.banEnd && after.banEnd != complete.banEnd)
    return fails("a ban appears");
  // What drains meanwhile is less.
  constexpr double kDrained = 0.01;
  const bool begins = complete.banEnd > kNow && !(before.banEnd > kNow);
  if (stays && before.hasPunishment &&
      !(after.level >= std::min(before.level, complete.level) - kDrained))
    return fails("a level is lost");
  if (stays && begins && !(after.banEnd > kNow) && after.level < before.level - kDrained)
    return fails("a level is lost without a ban");
  return true;
}

size_t interruptions = 0;

// Executes the operation in a child, which has a slot and locks of its own.
void record(const TestFile& file, Copies& recorded, size_t bytes,
            const std::function<void(SharedRules&)>& operation) {
  const pid_t child = fork();
  if (child == 0) {
    SharedRules own;
    attach(own, file);
    copies = &recorded;
    watch(own.region(), bytes, [&] { operation(own); });
    _exit(0);
  }
  int status = 0;
  const bool hasEnded = waitpid(child, &status, 0) == child;
  if (status != 0) std::fprintf(stderr, "the child has ended with the status %d\n", status);
  require(hasEnded && status == 0, "the child completes the operation");
}

void none(SharedRules&) {}

// Interrupts `operation`, which takes at most `cost` of a peer, on a file that `prepare` has
// filled. Calls `requireMore` after each interruption.
void interrupt(const char* what, double cost, const std::function<void(SharedRules&)>& prepare,
               const std::function<void(SharedRules&)>& operation,
               const std::function<void(SharedRules&)>& requireMore = none) {
  TestFile file;
  SharedRules rules;
  attach(rules, file);
  prepare(rules);
  unsigned char* const content = rules.region().bytes();
  const auto bytes = static_cast<size_t>(rules.layout().namesAt());
  const Content before = contentOf(rules);
  Copies recorded(bytes);
  record(file, recorded, bytes, operation);
  require(recorded.count() >= 2, "the operation changes the file");
  const Content complete = contentOf(rules);
  const auto in = [](const Content& all, const Content::key_type& id) {
    const auto found = all.find(id);
    return found == all.end() ? Stored() : found->second;
  };
  const auto requireKept = [&](const Copies& interrupted) {
    for (size_t i = 0; i < interrupted.count(); ++i) {
      std::memcpy(content, interrupted.at(i), bytes);
      const Content after = contentOf(rules);
      Content all = before;
      all.insert(complete.begin(), complete.end());
      all.insert(after.begin(), after.end());
      for (const auto& [id, unused] : all) {
        if (isKept(in(before, id), in(complete, id), in(after, id), cost)) continue;
        std::fprintf(stderr, "%s, before write %zu\n", what, i);
        require(false, "an interrupted operation keeps what it must");
      }
      requireMore(rules);
    }
  };
  requireKept(recorded);
  // A repair can be interrupted as well.
  std::memcpy(content, recorded.at(recorded.count() / 2), bytes);
  Copies repairs(bytes);
  record(file, repairs, bytes, [](SharedRules& own) {
    for (uint32_t shard = 0; shard <= own.shards(); ++shard)
      own.withShard(Needs::kAnyRules, Patience::kLong, shard, 0, [](double) {});
  });
  requireKept(repairs);
  // The file can be used on.
  std::memcpy(content, recorded.at(recorded.count() / 2), bytes);
  operation(rules);
  contentOf(rules);
  std::printf("%s: interrupted at %zu writes\n", what, recorded.count() - 1);
  interruptions += recorded.count() + repairs.count();
}

// Of all peers something is used; the last of them have violations, and one is banned.
void fill(SharedRules& rules) {
  for (unsigned peer = 0; peer < kPeers; ++peer) {
    const unsigned checks = peer < 6 ? 1 + peer / 2 : peer;
    for (unsigned i = 0; i < std::min(checks, 5u); ++i) check(rules, peer, kNow - 3);
    if (peer == kPeers - 1) check(rules, peer, kNow - 3);
  }
}

// How often the second rule of the first scope was asked.
uint64_t checkedOf(SharedRules& rules) {
  uint64_t checked = 0;
  const Entered entered =
      rules.eachHead([&](const SharedRules::Core& core) { checked += core.counts(0).checked[1]; });
  require(entered == Entered::kYes, "there are counts");
  return checked;
}

// The records of all keyed scopes.
size_t recordsOf(SharedRules& rules) {
  size_t count = 0;
  const Entered entered = rules.eachHead([&](SharedRules::Core& core) {
    rules.eachKeyed([&](unsigned i) { count += core.scope(i).records().size(); });
  });
  require(entered == Entered::kYes, "records are counted");
  return count;
}

// An update that is interrupted is in force for all or for nobody, and so are the counts that it
// sets back.
void testUpdate() {
  TestFile file;
  SharedRules rules;
  attach(rules, file);
  fill(rules);
  const uint64_t checked = checkedOf(rules);
  require(checked > 0, "rules are asked");
  unsigned char* const content = rules.region().bytes();
  const auto bytes = static_cast<size_t>(rules.layout().namesAt());
  Copies recorded(bytes);
  const auto update = [](SharedRules& own) {
    const uint16_t origins[1] = {0};
    const uint16_t added[kMaxScopes] = {6, 6, 6};
    SharedError error;
    const Entered entered = own.publish(planOf(3), origins, added, {"other", 5}, kNow, error);
    if (entered != Entered::kYes || error) _exit(5);
  };
  record(file, recorded, bytes, update);
  size_t inForce = 0;
  for (size_t i = 0; i < recorded.count(); ++i) {
    std::memcpy(content, recorded.at(i), bytes);
    const bool isNew = rules.region().header().configVersion.load() == 2;
    inForce += isNew;
    require(isNew || checkedOf(rules) == checked, "no count changes before the rules");
    // The process has the rules of before.
    for (unsigned peer : {1u, 5u, 100u}) {
      const RuleAnswer answer = check(rules, peer, kNow + 100);
      require((answer == RuleAnswer::kOutdated) == isNew, "all processes have the same rules");
    }
    SharedRules other;
    SharedError error;
    const SharedRulesConfig config{1u << kSingle, kPeers, "scopes", 6, "rules", 5};
    require(other.attach(file.path(), kSecret, planOf(2), config, error) && other.readConfig(error),
            "another process reads the rules");
    const size_t length = other.config().textBytes();
    require(std::string(other.config().text(), length) == (isNew ? "other" : "rules"),
            "the rules are whole");
    require(other.adopt(planOf(isNew ? 3 : 2)), "another process adopts the rules");
    require(!isNew || checkedOf(other) == 0, "counts belong to the rules");
    require(check(other, 1, kNow + 200) != RuleAnswer::kOutdated,
            "another process adopts the rules");
  }
  require(inForce > 0 && inForce < recorded.count(), "an update has a moment");
  std::printf("an update: interrupted at %zu writes\n", recorded.count() - 1);
  interruptions += recorded.count();
}

// A limiter that ends in a cleanup with a budget keeps nobody from the next one.
void testCleanupWithBudget() {
  const auto clean = [](SharedRules& rules) {
    bool isOutdated;
    rules.cleanup(1, 1e6, kNow + 100, isOutdated);
  };
  size_t left = 0;
  {
    TestFile file;
    SharedRules rules;
    attach(rules, file);
    fill(rules);
    const size_t before = recordsOf(rules);
    clean(rules);
    left = recordsOf(rules);
    require(left < before, "a cleanup removes records");
  }
  interrupt("a cleanup with a budget", 1e9, fill, clean, [&](SharedRules& rules) {
    clean(rules);
    require(recordsOf(rules) == left, "another one cleans up at once");
  });
}

}  // namespace

int main() {
  // Shows how far it came if a check fails.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const auto checks = [](unsigned peer, double now) {
    return [=](SharedRules& rules) { check(rules, peer, now); };
  };
  interrupt("the first peer", 1, none, checks(1, kNow));
  interrupt("an allowed check", 1, fill, checks(0, kNow));
  interrupt("a refill of an empty bucket", 1, fill, checks(5, kNow));
  interrupt("a refused check", 1, fill, checks(5, kNow - 3));
  interrupt("another violation", 1, fill, checks(8, kNow - 3));
  interrupt(
      "the violation that bans", 1,
      [](SharedRules& rules) {
        for (unsigned i = 0; i < 5; ++i) check(rules, 3, kNow);
      },
      checks(3, kNow));
  interrupt("a check during a ban", 1, fill, checks(kPeers - 1, kNow));
  interrupt("an eviction", 1, fill, checks(100, kNow));
  interrupt("a charge", 5, fill, [](SharedRules& rules) { charge(rules, 2, kNow, 5); });
  interrupt("a charge of a newcomer", 5, fill,
            [](SharedRules& rules) { charge(rules, 101, kNow, 5); });
  interrupt("a ban by hand", 0, fill, [](SharedRules& rules) {
    const TestKey key(4);
    rules.withPeer(Needs::kCurrentRules, 0, key.key(), kNow,
                   [](SharedRules::Scope& scope, const Key& found, double now) {
                     scope.ban(found, now + 99, now);
                   });
  });
  interrupt("the end of a ban by hand", 0, fill, [](SharedRules& rules) {
    const TestKey key(kPeers - 1);
    rules.withPeer(Needs::kAnyRules, 0, key.key(), kNow,
                   [](SharedRules::Scope& scope, const Key& found, double now) {
                     scope.offenders().endBan(found.fingerprint, now);
                   });
  });
  for (const unsigned peer : {2u, 9u, 100u}) {
    interrupt("a restore", kBurst, fill, [=](SharedRules& rules) {
      SavedRuleOffender saved{7, 1, 1, 50, std::nan(""), 1, {}};
      std::fill_n(saved.used, kMaxRules, 2.0);
      const TestKey key(peer);
      rules.withPeer(Needs::kCurrentRules, 0, key.key(), kNow,
                     [&](SharedRules::Scope& scope, const Key& found, double now) {
                       scope.restore(found, saved, now, kMostLookedAt);
                     });
    });
  }
  interrupt("a refund", 0, fill, [](SharedRules& rules) {
    callPeer(
        rules, 2, kNow, 1,
        [](SharedRules::Core& core, const SharedRules::ScopeKey* keys, uint32_t scopes, double time,
           RuleNumbers& numbers) { return core.refund(keys, scopes, 0, time, numbers); });
  });
  for (const unsigned peer : {0u, 100u}) {
    interrupt("a restore without a key", 0, fill, [=](SharedRules& rules) {
      SavedRuleDigest saved{TestKey(peer).key().fingerprint, 1, {}};
      std::fill_n(saved.used, kMaxRules, 2.0);
      rules.withPeer(Needs::kCurrentRules, 0, {saved.digest, nullptr, 0}, kNow,
                     [&](SharedRules::Scope& scope, const Key&, double now) {
                       scope.restorePeer(saved, now);
                     });
    });
  }
  interrupt("a restore of a single scope", 0, fill, [](SharedRules& rules) {
    double numbers[1 + kMaxRules] = {0};
    std::fill_n(numbers + 1, kMaxRules, 500.0);
    rules.withSingles(Needs::kCurrentRules, kNow, [&](SharedRules::Core& core, double now) {
      core.restoreSingle(kSingle, numbers, now);
    });
  });
  interrupt("another secret", 0, none, [](SharedRules& rules) { rules.adoptSecret({1, 2}); });
  const double everything = 1e9;
  interrupt("a removal", everything, fill, [](SharedRules& rules) {
    const TestKey key(kPeers - 1);
    rules.withPeer(
        Needs::kAnyRules, 0, key.key(), kNow,
        [](SharedRules::Scope& scope, const Key& found, double) { scope.removePeer(found); });
  });
  interrupt("a cleanup", everything, fill, [](SharedRules& rules) {
    bool isOutdated;
    rules.cleanup(1, kInfinity, kNow + 100, isOutdated);
  });
  testCleanupWithBudget();
  interrupt("a clear", everything, fill, [](SharedRules& rules) { rules.clear(); });
  testUpdate();
#if defined(__x86_64__)
  require(interruptions > 500, "operations have many writes");
#endif
  std::printf("shared rules crash: passed, %zu interruptions\n", interruptions);
}

// Shared limiters decide as private ones do, and several processes together never allow more than
// one would. .ci/run builds it with sanitizers.

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "shared-limiters.h"

namespace {

// A table of one shard has one page, as a private table of so few peers. So both find the same
// records when they look for one to evict, and must agree in everything.
constexpr double kMaxPeers = 300;
constexpr unsigned kKeys = 400;
constexpr unsigned kOperations = 60000;

class Random {
 public:
  explicit Random(unsigned seed) : source_(seed) {}

  // An integer below `end`.
  unsigned below(unsigned end) { return static_cast<unsigned>(source_()) % end; }

 private:
  std::mt19937 source_;
};

SavedOffender randomOffender(Random& random) {
  SavedOffender saved{random.below(9) + 1, random.below(2) == 0 ? 0.0 : random.below(100) + 1.0,
                      random.below(3) == 0 ? kInfinity : random.below(50) / 2.0,
                      SavedBucket::none()};
  if (random.below(2) == 0) saved.bucket = {random.below(3) / 2.0, random.below(9) / 1.0};
  return saved;
}

// What both limiters do, by the class of the limiter.
template <class Core, class Use>
Verdict checkBucket(Core& core, const Key& key, double cost, double now, Use&& use) {
  Bucket* bucket = nullptr;
  const Verdict verdict = core.check(key, bucket, cost, now);
  if (bucket != nullptr) use(*bucket);
  return verdict;
}

template <template <class> class Limiter>
class Comparison {
 public:
  using Private = Limiter<PrivateStorage>;
  using Shared = SharedLimiter<Limiter>;
  using Config = typename Shared::Config;

  explicit Comparison(const Config& config) : private_(config), shared_(config) {
    attach(shared_, file_);
    for (unsigned i = 0; i < kKeys; ++i) keys_.emplace_back(new TestKey(i));
  }

  // Calls use(core, key, now) for both limiters, which must return equal numbers.
  template <class Use>
  void both(const Key& key, Use&& use) {
    const double expected = use(private_, key, now_);
    double actual = std::nan("");
    require(shared_.withPeer(key, now_,
                             [&](auto& core, const Key& found, double time) {
                               require(time == now_, "the time is that of the call");
                               actual = use(core, found, time);
                             }),
            "a shard can be locked");
    if (actual == expected || (actual != actual && expected != expected)) return;
    std::fprintf(stderr, "%g, not %g\n", actual, expected);
    require(false, "both limiters return the same");
  }

  // `check(core, key, now, random)` is a random check of the class.
  template <class Check>
  void run(unsigned seed, Check&& check) {
    Random random(seed);
    for (unsigned n = 0; n < kOperations; ++n) {
      now_ += random.below(100) / 1000.0;
      const Key key = keys_[random.below(random.below(2) == 0 ? kKeys : kKeys / 8)]->key();
      const unsigned operation = random.below(1000);
      const unsigned choice = random.below(1 << 20);
      const auto saved = randomOffender(random);
      if (operation < 980) {
        both(key, [&](auto& core, const Key& found, double now) {
          return check(core, found, now, choice);
        });
      } else if (operation < 990) {
        both(key, [&](auto& core, const Key& found, double) {
          core.removePeer(found);
          return 0.0;
        });
      } else if (operation < 998) {
        both(key, [&](auto& core, const Key& found, double now) {
          return static_cast<double>(core.restore(found, saved, now, kMostLookedAt));
        });
      } else {
        const double age = choice % 40;
        const uint64_t removed = private_.cleanup(age, kInfinity, now_);
        require(shared_.cleanup(age, kInfinity, now_) == removed, "both remove the same peers");
      }
      both(key, [](auto& core, const Key& found, double now) {
        return core.idleSeconds(found.fingerprint, now) +
               1e6 * static_cast<double>(core.offenders().table().violations(found.fingerprint));
      });
      if (n % 1000 == 0) compareTotals();
    }
    compareTotals();
    stateOf(shared_);
  }

 private:
  void compareTotals() {
    SharedStatistics statistics;
    require(shared_.readStatistics(statistics), "there are statistics");
    auto& offenders = private_.offenders().table();
    require(statistics.peers == private_.peers(), "both store the same peers");
    require(statistics.tracked == private_.tracked(), "both track the same peers");
    require(statistics.violations.value() == offenders.totalViolations(), "violations");
    require(std::memcmp(&statistics.counters, &private_.counters(), sizeof(Counters)) == 0,
            "both count the same verdicts and evictions");
    const Offender* top[OffenderTable::kTop];
    const size_t count = offenders.topViolators(top);
    require(statistics.top.size() == count, "both list as many violators");
    for (size_t i = 0; i < count; ++i) {
      require(statistics.top[i].violations == top[i]->violations, "both list the same violators");
      require(!(statistics.top[i].key.key() < top[i]->storedKey) &&
                  !(top[i]->storedKey < statistics.top[i].key.key()),
              "both list the same keys");
    }
    BanList bans;
    size_t inForce = 0;
    bool hasMemory = true;
    require(shared_.readBans(bans, inForce, now_, hasMemory), "bans are listed");
    bans.sortByBeginning();
    size_t i = 0;
    require(private_.offenders().bannedKeys(now_, private_.banDuration(),
                                            [&](const StoredKey& key) {
                                              const StoredKey other = bans[i++].key.key();
                                              require(!(key < other) && !(other < key),
                                                      "both list the same bans");
                                            }),
            "there is memory");
    require(i == bans.size(), "both list as many bans");
  }

  TestFile file_;
  Private private_;
  Shared shared_;
  std::vector<std::unique_ptr<TestKey>> keys_;
  double now_ = 1000;
};

void compareLimiters() {
  for (unsigned seed = 0; seed < 2; ++seed) {
    Comparison<BasicRateLimiter>({0.5, 3, 8, kMaxPeers})
        .run(seed, [](auto& core, const Key& key, double now, unsigned choice) {
          double tokens = 0;
          const Verdict verdict = checkBucket(core, key, 1 + choice % 3, now,
                                              [&](Bucket& bucket) { tokens = bucket.tokens; });
          return tokens + 100 * static_cast<int>(verdict);
        });
    Comparison<BasicOrderbookLimiter>({2, 4, 2, 3, 20, kMaxPeers})
        .run(seed, [](auto& core, const Key& key, double now, unsigned choice) {
          if (choice % 50 == 0) return core.isBanned(key.fingerprint, now) ? 1.0 : 0.0;
          if (choice % 50 == 1) return core.unban(key.fingerprint, now) ? 1.0 : 0.0;
          auto* last = core.allowedAt().find(key.fingerprint);
          return static_cast<double>(core.check(key, last, now));
        });
    Comparison<BasicDirectLimiter>({0.5, 3, 2, 4, 20, kMaxPeers})
        .run(seed, [](auto& core, const Key& key, double now, unsigned choice) {
          if (choice % 50 == 0) return core.isBanned(key.fingerprint, now) ? 1.0 : 0.0;
          if (choice % 50 == 1) return core.unban(key.fingerprint, now) ? 1.0 : 0.0;
          if (choice % 2 == 0) {
            auto* last = core.allowedAt().find(key.fingerprint);
            return static_cast<double>(core.checkOrderbook(key, last, now));
          }
          return static_cast<double>(checkBucket(core, key, 1, now, [](Bucket&) {}));
        });
  }
}

// A peer that was opened is found at its slot, or by its key.
void testSlots() {
  TestFile file;
  SharedRate limiter({1, 3, kInfinity, 1000});
  attach(limiter, file);
  SharedBucketCheck<SharedRate> check{1, 1000};
  for (unsigned peer = 0; peer < 900; ++peer) {
    TestKey test(peer);
    Key key = test.key();
    PeerSlot slot = PeerSlot::of(key.fingerprint);
    require(checkSharedAt(limiter, slot, check) == Verdict::kNeedsText, "a new peer has no slot");
    require(checkShared(limiter, key, check, slot) == Verdict::kAllowed, "a new peer is allowed");
    for (unsigned i = 0; i < 2; ++i) {
      require(checkSharedAt(limiter, slot, check) == Verdict::kAllowed, "a slot leads to its peer");
    }
    require(checkSharedAt(limiter, slot, check) == Verdict::kNeedsText,
            "a first violation needs the key");
    require(checkShared(limiter, key, check, slot) == Verdict::kRefused, "the bucket is empty");
    require(check.delay == 1, "a refusal has a delay");
    require(checkSharedAt(limiter, slot, check) == Verdict::kRefused, "another violation does not");
    limiter.removePeer(key);
    require(checkSharedAt(limiter, slot, check) == Verdict::kNeedsText, "a slot goes stale");
  }
  std::mt19937 random(1);
  for (unsigned i = 0; i < 10000; ++i) {
    const auto word = [&] { return static_cast<int32_t>(static_cast<uint32_t>(random())); };
    require(
        checkSharedAt(limiter, {word(), 0, 0}, check) == Verdict::kNeedsText &&
            checkSharedAt(limiter, {word() & 1023, word(), word()}, check) == Verdict::kNeedsText,
        "any slot is safe");
  }
}

// An empty file adopts a secret; other limiters then hash keys again.
void testSecret() {
  TestFile file;
  SharedRate one({1, 3, kInfinity, 1000});
  SharedRate two({1, 3, kInfinity, 1000});
  SharedRate four({1, 3, kInfinity, 1000});
  attach(one, file);
  attach(two, file);
  attach(four, file);
  const Secret other{5, 6};
  require(one.adopt(other) && one.secret() == other, "an empty file adopts a secret");
  TestKey test(1);
  Key old = test.key();
  SharedBucketCheck<SharedRate> check{1, 1000};
  Key withoutText{old.fingerprint, nullptr, 0};
  SharedRate three({1, 3, kInfinity, 1000});
  attach(three, file);
  require(three.secret() == other, "a newcomer has the file's secret");
  require(checkShared(two, withoutText, check) == Verdict::kNeedsText, "the key is needed");
  require(two.secret() == other, "a call without the key reads the secret");
  require(checkShared(four, old, check) == Verdict::kAllowed, "the key is hashed again");
  require(old.fingerprint == TestKey(1, other).key().fingerprint, "with the other secret");
  require(one.adopt(kSecret) && one.secret() == other, "a file with peers keeps its secret");
  const SavedDigest saved{TestKey(2, other).key().fingerprint, std::nan(""), {0.5, 0}};
  require(two.restorePeer(saved, 1000) == Verdict::kAllowed, "a peer is restored by its digest");
  const TestKey restored(2, other);
  Key key = restored.key();
  require(checkShared(one, key, check) == Verdict::kRefused, "it has the restored tokens");
}

// Memory that children share with their parent.
template <class Value>
class SharedMemory {
 public:
  SharedMemory()
      : value_(static_cast<Value*>(mmap(nullptr, sizeof(Value), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  Value* operator->() { return value_; }

 private:
  Value* const value_;
};

constexpr unsigned kHotKeys = 3;

struct Totals {
  std::atomic<uint64_t> allowed[kHotKeys];
  std::atomic<uint64_t> checks;
  std::atomic<bool> isOver;
};

// Checks all hot keys until the end, or `most` times.
void hammer(SharedRate& limiter, Totals& totals, unsigned most) {
  for (unsigned n = 0; n < most && !totals.isOver; ++n) {
    const unsigned i = n % kHotKeys;
    TestKey test(i);
    Key key = test.key();
    SharedBucketCheck<SharedRate> check{1, monotonicSeconds()};
    if (checkShared(limiter, key, check) == Verdict::kAllowed) ++totals.allowed[i];
    ++totals.checks;
  }
}

// Processes and threads check the same keys. The processes are killed and replaced meanwhile.
void testNeverAbove() {
  constexpr double kRate = 2000;
  constexpr double kBurst = 50;
  const RateLimiterConfig config{kRate, kBurst, kInfinity, 100};
  TestFile file;
  SharedMemory<Totals> totals;
  SharedRate limiter(config);
  attach(limiter, file);
  const double began = monotonicSeconds();
  const auto start = [&] {
    const pid_t child = fork();
    if (child != 0) return child;
    SharedRate own(config);
    attach(own, file);
    hammer(own, *totals.operator->(), ~0u);
    _exit(0);
  };
  pid_t children[3];
  for (pid_t& child : children) child = start();
  unsigned killed = 0;
  Random random(3);
  while (totals->checks < 60000 || killed < 20) {
    pid_t& child = children[random.below(3)];
    // At any instruction.
    const uint64_t until = totals->checks + random.below(500);
    while (totals->checks < until) hammer(limiter, *totals.operator->(), 1);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    ++killed;
    child = start();
  }
  totals->isOver = true;
  for (const pid_t child : children) {
    int status;
    require(waitpid(child, &status, 0) == child && status == 0, "a process ends by itself");
  }
  const double seconds = monotonicSeconds() - began;
  for (const auto& allowed : totals->allowed) {
    require(static_cast<double>(allowed) <= kBurst + kRate * seconds,
            "all together allow no more than one would");
  }
  stateOf(limiter);
  std::printf("shared limiters: %llu checks, %u processes killed\n",
              static_cast<unsigned long long>(totals->checks), killed);
}

// Threads of one process, each with its own attachment.
void testThreads() {
  constexpr double kRate = 2000;
  constexpr double kBurst = 50;
  const RateLimiterConfig config{kRate, kBurst, kInfinity, 100};
  TestFile file;
  SharedMemory<Totals> totals;
  const double began = monotonicSeconds();
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      SharedRate own(config);
      attach(own, file);
      hammer(own, *totals.operator->(), 5000);
    });
  }
  for (auto& thread : threads) thread.join();
  const double seconds = monotonicSeconds() - began;
  for (const auto& allowed : totals->allowed) {
    require(static_cast<double>(allowed) <= kBurst + kRate * seconds, "threads allow no more");
  }
  SharedRate limiter(config);
  attach(limiter, file);
  SharedStatistics statistics;
  require(limiter.readStatistics(statistics), "there are statistics");
  require(statistics.counters.allowed + statistics.counters.delayed == totals->checks,
          "every check is counted");
  stateOf(limiter);
}

}  // namespace

int main() {
  compareLimiters();
  testSlots();
  testSecret();
  testThreads();
  testNeverAbove();
  std::puts("shared limiters: passed");
}

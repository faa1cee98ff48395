// Shared limiters decide as private ones do, and several processes together never allow more than
// one would. .ci/run builds it with sanitizers.

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "shared-comparison.h"

namespace {

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

// Random operations on both limiters.
template <template <class> class Limiter>
void compare(const typename SharedLimiter<Limiter>::Config& config, unsigned seed) {
  TestFile file;
  SharedLimiter<Limiter> shared(config);
  attach(shared, file);
  Comparison<Limiter> comparison(config, shared);
  std::vector<std::unique_ptr<TestKey>> keys;
  for (unsigned i = 0; i < kKeys; ++i) keys.emplace_back(new TestKey(i));
  Random random(seed);
  for (unsigned n = 0; n < kOperations; ++n) {
    comparison.pass(random.below(100) / 1000.0);
    const Key key = keys[random.below(random.below(2) == 0 ? kKeys : kKeys / 8)]->key();
    const unsigned operation = random.below(1000);
    const unsigned choice = random.below(1 << 20);
    const auto saved = randomOffender(random);
    if (operation < 980) {
      comparison.check(key, choice);
    } else if (operation < 990) {
      comparison.removePeer(key);
    } else if (operation < 998) {
      comparison.restore(key, saved);
    } else {
      comparison.cleanup(choice % 40);
    }
    comparison.read(key);
    if (n % 1000 == 0) comparison.compareTotals();
  }
  comparison.compareTotals();
  stateOf(shared);
}

void compareLimiters() {
  for (unsigned seed = 0; seed < 2; ++seed) {
    compare<BasicRateLimiter>(kComparedRate, seed);
    compare<BasicOrderbookLimiter>(kComparedOrderbook, seed);
    compare<BasicDirectLimiter>(kComparedDirect, seed);
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

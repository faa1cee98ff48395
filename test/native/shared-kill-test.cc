// Kills processes under load: four of them use the same shared tables at full speed, and every
// 20 ms one of them is killed and replaced. They log what is admitted and refused in memory that
// survives them. The tables must never admit more than one limiter would, lose no ban and no
// violation but those of calls under way, and be consistent in the end.
//
//   shared-kill-test [KILLS]   200 kills, or so many; 3000 take a minute

#include <signal.h>
#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <random>

#include "children.h"
#include "shared-rules.h"

namespace {

constexpr unsigned kProcesses = 4;
constexpr unsigned kHotKeys = 4;
constexpr unsigned kBanned = 20;
// So many that newcomers evict others all the time.
constexpr unsigned kColdKeys = 3000;
constexpr double kMaxPeers = 600;
constexpr RateLimiterConfig kRateConfig{200, 50, kInfinity, kMaxPeers};
constexpr OrderbookConfig kOrderbookConfig{1e6, 4, 2, 3, 1e6, kMaxPeers};
constexpr double kSingleBurst = 1000;

// The admissions of one bucket, in their order: processes write it while they hold the lock of the
// bucket. And how many checks it has refused.
class Log {
 public:
  void admit(double time) {
    const uint32_t index = count_++;
    // Without the last ones the others still fit.
    if (index < kMost) times_[index] = time;
  }
  void refuse() { ++refused_; }

  uint64_t refused() const { return refused_; }
  uint32_t admitted() const { return std::min(count_.load(), kMost); }

  // Whether every sequence of admissions fits burst + rate * T.
  bool isWithin(double burst, double rate) const {
    double least = kInfinity;
    double number = 0;
    for (uint32_t i = 0; i < admitted(); ++i) {
      // Its process was killed before it wrote that.
      if (times_[i] == 0) continue;
      least = std::min(least, number++ - rate * times_[i]);
      if (number - rate * times_[i] - least > burst + 1e-3) return false;
    }
    return true;
  }

 private:
  static constexpr uint32_t kMost = 1 << 18;

  std::atomic<uint32_t> count_{0};
  std::atomic<uint64_t> refused_{0};
  double times_[kMost];
};

// In memory that all processes share.
struct Logs {
  Log keys[kHotKeys];
  Log single;
  // The calls of each process since it began.
  std::atomic<uint64_t> calls[kProcesses];
};

Logs& newLogs() {
  constexpr int kFlags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
  void* memory = mmap(nullptr, sizeof(Logs), PROT_READ | PROT_WRITE, kFlags, /*fd=*/-1, 0);
  require(memory != MAP_FAILED, "there is memory for logs");
  return *new (memory) Logs;
}

// The tables, as one process uses them.
class Tables {
 public:
  Tables(const TestFile& rate, const TestFile& orderbook, const TestFile& rules)
      : rate_(kRateConfig), orderbook_(kOrderbookConfig) {
    attach(rate_, rate);
    attach(orderbook_, orderbook);
    attach(rules_, rules, kMaxPeers);
  }

  // Makes calls until the process is killed.
  [[noreturn]] void use(Logs& logs, std::atomic<uint64_t>& calls, unsigned seed) {
    std::mt19937 random(seed);
    for (;;) {
      const auto pick = [&](unsigned most) { return static_cast<unsigned>(random() % most); };
      const unsigned hot = pick(kHotKeys);
      checkHot(hot, logs.keys[hot]);
      checkRules(pick(kColdKeys), logs.single);
      const unsigned cold = kBanned + kHotKeys + pick(kColdKeys);
      checkCold(cold);
      checkOrderbook(cold, pick(8) == 0);
      if (pick(64) == 0) sweep();
      ++calls;
    }
  }

  void checkHot(unsigned hot, Log& log) {
    const TestKey key(kBanned + hot);
    Verdict verdict = Verdict::kStalled;
    rate_.withPeer(key.key(), monotonicSeconds(), [&](auto& core, const Key& found, double time) {
      Bucket* bucket = core.buckets().find(found.fingerprint);
      verdict = core.check(found, bucket, 1, time);
      if (verdict == Verdict::kAllowed) log.admit(time);
    });
    if (verdict == Verdict::kRefused) log.refuse();
  }

  void ban(unsigned peer) {
    const TestKey key(peer);
    for (unsigned i = 0; i < 6; ++i) offend(key.key());
  }

  // Whether each banned peer is banned, with its violations.
  bool areBanned() {
    for (unsigned peer = 0; peer < kBanned; ++peer) {
      const TestKey key(peer);
      bool isBanned = false;
      const auto look = [&](auto& core, const Key& found, double now) {
        isBanned = core.isBanned(found.fingerprint, now) &&
                   core.offenders().table().violations(found.fingerprint) >= 4;
      };
      // The shard of a process that gets no processor time is stalled for a moment.
      while (!orderbook_.withPeer(key.key(), monotonicSeconds(), look)) sleepMicroseconds(1000);
      if (!isBanned) return false;
    }
    return true;
  }

  uint64_t violations(unsigned peer) {
    const TestKey key(peer);
    uint64_t count = 0;
    require(rate_.withPeer(key.key(), 0,
                           [&](auto& core, const Key& found, double) {
                             count = core.offenders().table().violations(found.fingerprint);
                           }),
            "nobody holds a shard");
    return count;
  }

  void requireConsistent() {
    stateOf(rate_);
    stateOf(orderbook_);
    require(rules_.eachHead([](auto&) {}) == Entered::kYes, "nobody holds a shard of rules");
    unsigned attached = 0;
    rate_.region().eachAttached([&](uint32_t, double) { ++attached; });
    require(attached == 1, "the killed limiters are not attached");
  }

 private:
  void checkRules(unsigned peer, Log& log) {
    callPeer(rules_, peer, monotonicSeconds(), 1,
             [&](SharedRules::Core& core, const SharedRules::ScopeKey* keys, uint32_t scopes,
                 double time, RuleNumbers& numbers) {
               const RuleAnswer answer = core.check(keys, scopes, 0, time, numbers);
               if (answer == RuleAnswer::kAllowed) log.admit(time);
               return answer;
             });
  }

  void checkCold(unsigned peer) {
    const TestKey key(peer);
    Key copy = key.key();
    SharedBucketCheck<SharedRate> check{1, monotonicSeconds()};
    checkShared(rate_, copy, check);
  }

  void offend(const Key& key) {
    orderbook_.withPeer(key, monotonicSeconds(), [](auto& core, const Key& found, double now) {
      core.check(found, core.allowedAt().find(found.fingerprint), now);
    });
  }

  void checkOrderbook(unsigned peer, bool removes) {
    const TestKey key(peer);
    offend(key.key());
    offend(key.key());
    if (removes) orderbook_.removePeer(key.key());
  }

  void sweep() {
    SharedStatistics statistics;
    rate_.readStatistics(statistics);
    rate_.cleanup(1e6, 0.1, monotonicSeconds());
    orderbook_.cleanup(1e6, 0.1, monotonicSeconds());
  }

  SharedRate rate_;
  SharedOrderbook orderbook_;
  SharedRules rules_;
};

}  // namespace

int main(int count, char** arguments) {
  const auto kills =
      static_cast<unsigned>(count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 200);
  TestFile rate, orderbook, rules;
  Logs& logs = newLogs();
  Tables tables(rate, orderbook, rules);
  for (unsigned peer = 0; peer < kBanned; ++peer) tables.ban(peer);
  require(tables.areBanned(), "some peers are banned");
  // Peers with violations are not evicted while there are others.
  for (unsigned hot = 0; hot < kHotKeys; ++hot) {
    while (logs.keys[hot].refused() == 0) tables.checkHot(hot, logs.keys[hot]);
  }
  pid_t children[kProcesses];
  const auto start = [&](unsigned i, unsigned seed) {
    logs.calls[i] = 0;
    children[i] = inChild([&] { Tables(rate, orderbook, rules).use(logs, logs.calls[i], seed); });
  };
  const auto end = [&](unsigned i) {
    kill(children[i], SIGKILL);
    int status;
    require(waitpid(children[i], &status, 0) == children[i] && WIFSIGNALED(status) &&
                WTERMSIG(status) == SIGKILL,
            "a process ends only because it is killed");
  };
  for (unsigned i = 0; i < kProcesses; ++i) start(i, i);
  for (unsigned n = 0; n < kills; ++n) {
    const unsigned victim = n % kProcesses;
    sleepMicroseconds(20000);
    while (logs.calls[victim] == 0) sleepMicroseconds(1000);
    end(victim);
    start(victim, kProcesses + n);
    if (n % 8 == 0) require(tables.areBanned(), "no ban is lost");
  }
  for (unsigned i = 0; i < kProcesses; ++i) end(i);
  require(tables.areBanned(), "no ban is lost");
  tables.requireConsistent();
  uint32_t admitted = logs.single.admitted();
  for (unsigned hot = 0; hot < kHotKeys; ++hot) {
    const Log& log = logs.keys[hot];
    require(log.isWithin(kRateConfig.burstLimit, kRateConfig.rateLimit),
            "no key exceeds its limit");
    const uint64_t violations = tables.violations(kBanned + hot);
    require(violations >= log.refused(), "no violation is lost");
    require(violations <= log.refused() + kills + kProcesses, "no violation appears");
    admitted += log.admitted();
  }
  require(logs.single.isWithin(kSingleBurst, kRate), "all keys together stay within their limit");
  std::printf("killed under load: passed, %u kills, %u admissions\n", kills, admitted);
}

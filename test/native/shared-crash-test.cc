// Ends a process at every write of every operation on a shared file, and lets another one recover.
//
// A child attaches to the file, protects it from writing, and executes the operation. An
// instruction that writes to the file faults. It is then executed alone (the trap flag of x86)
// without the protection, and the content is copied: this is what others would find if the process
// ended there. The child ends, so that its lock can be taken over. The parent puts each copy in
// place, uses the file, and compares it with the content before the operation and with that after a
// complete one.
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
#include <functional>
#include <vector>

#include "shared-limiters.h"

namespace {

// The copies that a child makes. Its memory is shared with the parent.
class Recorder {
 public:
  explicit Recorder(const SharedLayout& layout) : layout_(layout), bytes_(layout.totalBytes()) {
    constexpr int kFlags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory =
        mmap(nullptr, kHead + bytes_ * kMost, PROT_READ | PROT_WRITE, kFlags, /*fd=*/-1, 0);
    require(memory != MAP_FAILED, "there is memory for copies");
    memory_ = static_cast<unsigned char*>(memory);
  }
  ~Recorder() { munmap(memory_, kHead + bytes_ * kMost); }

  size_t count() const { return *reinterpret_cast<size_t*>(memory_); }
  const unsigned char* at(size_t index) const { return memory_ + kHead + index * bytes_; }

  // Copies the content if it has changed since the last copy.
  void record(const unsigned char* content) {
    size_t& count = *reinterpret_cast<size_t*>(memory_);
    if (count > 0 && isEqual(at(count - 1), content)) return;
    if (count == kMost) _exit(3);
    std::memcpy(memory_ + kHead + count * bytes_, content, bytes_);
    ++count;
  }

  // Calls use() and records every change of the content.
  void watch(unsigned char* content, const std::function<void()>& use);

 private:
  static constexpr size_t kHead = 4096;
  static constexpr size_t kMost = 6000;

  // Compares neither the slots, which no operation changes, nor the names: what is written there is
  // not used before a later write.
  bool isEqual(const unsigned char* a, const unsigned char* b) const {
    const auto compare = [&](size_t begin, size_t end) {
      return std::memcmp(a + begin, b + begin, end - begin) == 0;
    };
    return compare(0, offsetof(SharedHeader, slots)) &&
           compare(layout_.headsAt(), layout_.namesAt());
  }

  const SharedLayout layout_;
  const size_t bytes_;
  unsigned char* memory_;
};

#if defined(__x86_64__)

// What is recorded at present, for the handlers of signals.
struct Watched {
  Recorder* recorder;
  unsigned char* content;
  size_t bytes;
  // The part to which the present instruction writes.
  unsigned char* written;

  // Of the file, or of the part that an instruction can write.
  void protect(int rights) const { mprotect(content, bytes, rights); }
  void protectWritten(int rights) const {
    mprotect(written, written + kPage == content + bytes ? kPage : 2 * kPage, rights);
  }

  static constexpr size_t kPage = 4096;
} watched;

constexpr long long kTrapFlag = 0x100;

long long& flagsOf(void* context) {
  return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL];
}

// Lets one instruction write.
void onFault(int, siginfo_t* signal, void* context) {
  const auto* address = static_cast<const unsigned char*>(signal->si_addr);
  if (address < watched.content || address >= watched.content + watched.bytes) _exit(4);
  const auto offset = static_cast<size_t>(address - watched.content);
  watched.written = watched.content + offset / Watched::kPage * Watched::kPage;
  watched.protectWritten(PROT_READ | PROT_WRITE);
  flagsOf(context) |= kTrapFlag;
}

// After that instruction.
void onTrap(int, siginfo_t*, void* context) {
  watched.recorder->record(watched.content);
  watched.protectWritten(PROT_READ);
  flagsOf(context) &= ~kTrapFlag;
}

void handle(int signal, void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(signal, &action, nullptr);
}

#endif

void Recorder::watch(unsigned char* content, const std::function<void()>& use) {
  record(content);
#if defined(__x86_64__)
  watched = {this, content, bytes_, content};
  handle(SIGSEGV, onFault);
  handle(SIGTRAP, onTrap);
  watched.protect(PROT_READ);
  use();
  watched.protect(PROT_READ | PROT_WRITE);
#else
  use();
#endif
  record(content);
}

constexpr double kNow = 1000;
// When buckets are compared.
constexpr double kLater = kNow + 3;

template <template <class> class Limiter>
class CrashTest {
 public:
  using Shared = SharedLimiter<Limiter>;
  using Config = typename Shared::Config;
  using Operation = std::function<void(Shared&)>;

  CrashTest(const char* name, const Config& config, double cost, double rate, double capacity)
      : name_(name), config_(config), cost_(cost), rate_(rate), capacity_(capacity) {}

  // Interrupts `operation` on a file that `prepare` has filled. Calls `requireMore` after each
  // interruption.
  void interrupt(
      const char* what, const Operation& prepare, const Operation& operation,
      const Operation& requireMore = [](Shared&) {}) {
    TestFile file;
    Shared limiter(config_);
    attach(limiter, file);
    prepare(limiter);
    unsigned char* content = limiter.region().bytes();
    const size_t bytes = limiter.layout().totalBytes();
    const State before = stateOf(limiter);

    Recorder copies(limiter.layout());
    record(file, copies, operation);
    const size_t count = copies.count();
    require(count >= 2, "the operation changes the file");
    const State complete = stateOf(limiter);

    const auto requireKept = [&](const Recorder& interrupted) {
      for (size_t i = 0; i < interrupted.count(); ++i) {
        std::memcpy(content, interrupted.at(i), bytes);
        if (compare(before, complete, stateOf(limiter))) {
          requireMore(limiter);
          continue;
        }
        std::fprintf(stderr, "%s, %s, after write %zu\n", name_, what, i);
        require(false, "an interrupted operation keeps what it must");
      }
    };
    requireKept(copies);
    // A repair can be interrupted as well.
    std::memcpy(content, copies.at(count / 2), bytes);
    Recorder repairs(limiter.layout());
    record(file, repairs, [](Shared& own) { own.eachShard(0, [](auto&, double) {}); });
    requireKept(repairs);
    // The file can be used on.
    std::memcpy(content, copies.at(count / 2), bytes);
    operation(limiter);
    stateOf(limiter);
    std::printf("%s: %s, interrupted at %zu writes\n", name_, what, count - 1);
    interruptions_ += count + repairs.count();
  }

  size_t interruptions() const { return interruptions_; }

 private:
  // Executes the operation in a child, which has a slot and locks of its own.
  void record(const TestFile& file, Recorder& copies, const Operation& operation) {
    const pid_t child = fork();
    if (child == 0) {
      Shared own(config_);
      attach(own, file);
      copies.watch(own.region().bytes(), [&] { operation(own); });
      _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
            "the child completes the operation");
  }

  static PeerState peerIn(const State& state, const State::key_type& id) {
    const auto found = state.find(id);
    return found == state.end() ? PeerState() : found->second;
  }

  // The tokens of a peer; a peer without a bucket has a full one.
  double tokensOf(const PeerState& peer) const {
    if (!peer.hasBucket) return capacity_;
    return std::min(capacity_, peer.tokens + std::max(0.0, kLater - peer.lastRefill) * rate_);
  }

  bool compare(const State& before, const State& complete, const State& after) const {
    State all = before;
    all.insert(complete.begin(), complete.end());
    all.insert(after.begin(), after.end());
    for (const auto& [id, unused] : all) {
      const PeerState first = peerIn(before, id);
      const PeerState last = peerIn(complete, id);
      const PeerState peer = peerIn(after, id);
      if (first == last) {
        if (peer == first) continue;
        std::fprintf(stderr, "another peer has changed\n");
        return false;
      }
      if (peer.violations != first.violations && peer.violations != last.violations) {
        std::fprintf(stderr, "violations %llu, not %llu or %llu\n",
                     static_cast<unsigned long long>(peer.violations),
                     static_cast<unsigned long long>(first.violations),
                     static_cast<unsigned long long>(last.violations));
        return false;
      }
      if (first.hasBan && last.hasBan && !peer.hasBan) {
        std::fprintf(stderr, "a ban is lost\n");
        return false;
      }
      // Else the next check would begin the ban again.
      if (first.hasBan && !peer.hasBan && peer.violations != last.violations) {
        std::fprintf(stderr, "a ban has ended without its violations\n");
        return false;
      }
      if (peer.hasBan && !(first.hasBan && first.began == peer.began) &&
          !(last.hasBan && last.began == peer.began)) {
        std::fprintf(stderr, "a ban appears\n");
        return false;
      }
      // Such a time says no more than no time. The next request of a peer whose ban is over is
      // allowed: before, after and in between.
      const bool hasEnded = (!first.hasTime || (first.hasBan && !last.hasBan)) && peer.at == kNever;
      if (peer.hasTime && !hasEnded && !(first.hasTime && first.at == peer.at) &&
          !(last.hasTime && last.at == peer.at)) {
        std::fprintf(stderr, "a time appears\n");
        return false;
      }
      if (first.hasTime && last.hasTime && !peer.hasTime) {
        std::fprintf(stderr, "a time is lost\n");
        return false;
      }
      if (tokensOf(peer) > std::max(tokensOf(first), tokensOf(last) + cost_) + 1e-9) {
        std::fprintf(stderr, "tokens %g, from %g to %g\n", tokensOf(peer), tokensOf(first),
                     tokensOf(last));
        return false;
      }
    }
    return true;
  }

  const char* const name_;
  const Config config_;
  const double cost_;
  const double rate_;
  const double capacity_;
  size_t interruptions_ = 0;
};

constexpr unsigned kPeers = 12;

SavedOffender savedOffender(double banSecondsLeft) { return {5, banSecondsLeft, 20, {0.5, 1}}; }

// RateLimiter

Verdict checkRate(SharedRate& limiter, unsigned peer, double now, double cost = 1) {
  TestKey key(peer);
  Key copy = key.key();
  SharedBucketCheck<SharedRate> check{cost, now};
  return checkShared(limiter, copy, check);
}

// The first peers are idle, the others have violations.
void fillRate(SharedRate& limiter) {
  for (unsigned peer = 0; peer < kPeers; ++peer) {
    for (unsigned i = 0; i < 2 + peer / 2; ++i) checkRate(limiter, peer, kNow - 50 + peer * 3);
  }
}

void fillRateWithOffenders(SharedRate& limiter) {
  for (unsigned peer = 0; peer < kPeers; ++peer) {
    for (unsigned i = 0; i < 6 + peer; ++i) checkRate(limiter, peer, kNow - 3);
  }
}

size_t testRate() {
  CrashTest<BasicRateLimiter> test("RateLimiter", {0.5, 3, 8, kPeers}, 1, 0.5, 3);
  const auto check = [](unsigned peer, double now) {
    return [=](SharedRate& limiter) { checkRate(limiter, peer, now); };
  };
  const auto none = [](SharedRate&) {};
  test.interrupt("the first peer", none, check(1, kNow));
  test.interrupt("an allowed check", fillRate, check(2, kNow));
  test.interrupt(
      "a refill of an empty bucket",
      [](SharedRate& limiter) {
        for (unsigned i = 0; i < 4; ++i) checkRate(limiter, 3, kNow - 2);
      },
      check(3, kNow));
  for (const unsigned peer : {3u, 5u}) {
    test.interrupt(
        "the first violation",
        [=](SharedRate& limiter) {
          for (unsigned i = 0; i < 3; ++i) checkRate(limiter, peer, kNow);
        },
        check(peer, kNow));
  }
  test.interrupt("another violation", fillRateWithOffenders, check(4, kNow - 3));
  test.interrupt("an eviction", fillRate, check(100, kNow));
  test.interrupt("an eviction of an offender", fillRateWithOffenders, check(100, kNow));
  const auto remove = [](SharedRate& limiter) { limiter.removePeer(TestKey(7).key()); };
  test.interrupt("a removal", fillRateWithOffenders, remove);
  const auto clean = [](SharedRate& limiter) { limiter.cleanup(30, kInfinity, kNow); };
  test.interrupt("a cleanup", fillRate, clean);
  const auto cleanSlowly = [](SharedRate& limiter) { limiter.cleanup(30, 1e6, kNow); };
  test.interrupt("a cleanup with a budget", fillRate, cleanSlowly, [&](SharedRate& limiter) {
    cleanSlowly(limiter);
    // The last check of peer n is 50 - 3n seconds old.
    require(stateOf(limiter).size() == kPeers - 7, "another one cleans up at once");
  });
  const auto clear = [](SharedRate& limiter) { limiter.clear(); };
  test.interrupt("a clear", fillRateWithOffenders, clear);
  const auto restore = [](unsigned peer) {
    return [=](SharedRate& limiter) {
      limiter.restore(TestKey(peer).key(), savedOffender(0), kNow, kMostLookedAt);
    };
  };
  test.interrupt("a restore of a known peer", fillRate, restore(1));
  test.interrupt("a restore of a new peer", none, restore(100));
  const auto restorePeer = [](SharedRate& limiter) {
    const SavedDigest saved{TestKey(2).key().fingerprint, std::nan(""), {0.25, 1}};
    limiter.restorePeer(saved, kNow);
  };
  test.interrupt("a restore of a known bucket", fillRate, restorePeer);
  test.interrupt("a restore of a bucket", none, restorePeer);
  const auto adopt = [](SharedRate& limiter) { limiter.adopt({1, 2}); };
  test.interrupt("another secret", none, adopt);
  return test.interruptions();
}

// OrderbookLimiter

using OrderbookCheck =
    SharedTimeCheck<SharedOrderbook, &BasicOrderbookLimiter<SharedStorage>::check>;

Verdict checkOrderbook(SharedOrderbook& limiter, unsigned peer, double now) {
  TestKey key(peer);
  Key copy = key.key();
  OrderbookCheck check{now};
  return checkShared(limiter, copy, check);
}

// A third of the peers is banned, a third has violations.
void fillOrderbook(SharedOrderbook& limiter) {
  for (unsigned peer = 0; peer < kPeers; ++peer) {
    const unsigned violations = peer % 3 == 0 ? 0 : peer % 3 == 1 ? 1 : 6;
    for (unsigned i = 0; i < 1 + violations; ++i) checkOrderbook(limiter, peer, kNow - 9);
  }
}

size_t testOrderbook() {
  CrashTest<BasicOrderbookLimiter> test("OrderbookLimiter", {10, 4, 2, 3, 100, kPeers}, 0, 0, 0);
  const auto check = [](unsigned peer, double now) {
    return [=](SharedOrderbook& limiter) { checkOrderbook(limiter, peer, now); };
  };
  const auto none = [](SharedOrderbook&) {};
  test.interrupt("the first peer", none, check(1, kNow));
  test.interrupt("an allowed request", fillOrderbook, check(0, kNow + 5));
  test.interrupt("the first violation", fillOrderbook, check(3, kNow - 5));
  test.interrupt("another violation", fillOrderbook, check(4, kNow - 5));
  test.interrupt(
      "a ban",
      [](SharedOrderbook& limiter) {
        for (unsigned i = 0; i < 5; ++i) checkOrderbook(limiter, 5, kNow);
      },
      check(5, kNow));
  test.interrupt("a violation during a ban", fillOrderbook, check(2, kNow));
  test.interrupt("the end of a ban", fillOrderbook, check(2, kNow + 200));
  test.interrupt("an eviction", fillOrderbook, check(100, kNow));
  test.interrupt("an eviction of a ban that is over", fillOrderbook, check(100, kNow + 200));
  test.interrupt("an unban", fillOrderbook, [](SharedOrderbook& limiter) {
    limiter.withPeer(TestKey(2).key(), kNow, [](auto& core, const Key& key, double now) {
      core.unban(key.fingerprint, now);
    });
  });
  test.interrupt("a removal of a banned peer", fillOrderbook,
                 [](SharedOrderbook& limiter) { limiter.removePeer(TestKey(5).key()); });
  const auto clean = [](double maxAge, double now) {
    return [=](SharedOrderbook& limiter) { limiter.cleanup(maxAge, kInfinity, now); };
  };
  test.interrupt("a cleanup of times", fillOrderbook, clean(5, kNow));
  test.interrupt("a cleanup of bans", fillOrderbook, clean(kInfinity, kNow + 200));
  test.interrupt("a clear", fillOrderbook, [](SharedOrderbook& limiter) { limiter.clear(); });
  for (const unsigned peer : {0u, 2u, 100u}) {
    test.interrupt("a restore of a ban", fillOrderbook, [=](SharedOrderbook& limiter) {
      SavedOffender saved = savedOffender(99);
      saved.bucket = SavedBucket::none();
      if (peer == 100) saved.idleSeconds = kInfinity;
      limiter.restore(TestKey(peer).key(), saved, kNow, kMostLookedAt);
    });
  }
  return test.interruptions();
}

// DirectLimiter

using DirectOrderbookCheck =
    SharedTimeCheck<SharedDirect, &BasicDirectLimiter<SharedStorage>::checkOrderbook>;

Verdict checkMessage(SharedDirect& limiter, unsigned peer, double now) {
  TestKey key(peer);
  Key copy = key.key();
  SharedBucketCheck<SharedDirect> check{1, now};
  return checkShared(limiter, copy, check);
}

Verdict checkDirectOrderbook(SharedDirect& limiter, unsigned peer, double now) {
  TestKey key(peer);
  Key copy = key.key();
  DirectOrderbookCheck check{now};
  return checkShared(limiter, copy, check);
}

void fillDirect(SharedDirect& limiter) {
  for (unsigned peer = 0; peer < kPeers; ++peer) {
    if (peer % 4 != 1) checkMessage(limiter, peer, kNow - 9);
    const unsigned requests = peer % 4 == 0 ? 0 : peer % 4 == 1 ? 1 : peer % 4 == 2 ? 3 : 6;
    for (unsigned i = 0; i < requests; ++i) checkDirectOrderbook(limiter, peer, kNow - 9);
  }
}

size_t testDirect() {
  CrashTest<BasicDirectLimiter> test("DirectLimiter", {0.5, 3, 20, 4, 100, kPeers}, 1, 0.5, 3);
  const auto message = [](unsigned peer, double now) {
    return [=](SharedDirect& limiter) { checkMessage(limiter, peer, now); };
  };
  const auto orderbook = [](unsigned peer, double now) {
    return [=](SharedDirect& limiter) { checkDirectOrderbook(limiter, peer, now); };
  };
  const auto none = [](SharedDirect&) {};
  test.interrupt("the first message", none, message(1, kNow));
  test.interrupt("the first request", none, orderbook(1, kNow));
  test.interrupt("a message", fillDirect, message(0, kNow));
  test.interrupt("the second table", fillDirect, message(1, kNow));
  test.interrupt("a refused request", fillDirect, orderbook(1, kNow));
  test.interrupt("another violation", fillDirect, orderbook(2, kNow));
  test.interrupt(
      "a ban",
      [](SharedDirect& limiter) {
        for (unsigned i = 0; i < 4; ++i) checkDirectOrderbook(limiter, 5, kNow);
      },
      orderbook(5, kNow));
  test.interrupt("the end of a ban", fillDirect, orderbook(3, kNow + 200));
  test.interrupt("an unban", fillDirect, [](SharedDirect& limiter) {
    limiter.withPeer(TestKey(3).key(), kNow, [](auto& core, const Key& key, double now) {
      core.unban(key.fingerprint, now);
    });
  });
  test.interrupt("an eviction for a message", fillDirect, message(100, kNow));
  test.interrupt("an eviction for a request", fillDirect, orderbook(100, kNow));
  test.interrupt("an eviction after bans", fillDirect, orderbook(100, kNow + 200));
  const auto clean = [](double now) {
    return [=](SharedDirect& limiter) { limiter.cleanup(5, kInfinity, now); };
  };
  test.interrupt("a cleanup", fillDirect, clean(kNow));
  test.interrupt("a cleanup of bans", fillDirect, clean(kNow + 200));
  test.interrupt("a removal", fillDirect,
                 [](SharedDirect& limiter) { limiter.removePeer(TestKey(3).key()); });
  test.interrupt("a clear", fillDirect, [](SharedDirect& limiter) { limiter.clear(); });
  for (const unsigned peer : {1u, 3u, 100u}) {
    test.interrupt("a restore", fillDirect, [=](SharedDirect& limiter) {
      limiter.restore(TestKey(peer).key(), savedOffender(99), kNow, kMostLookedAt);
    });
    test.interrupt("a restore without a key", fillDirect, [=](SharedDirect& limiter) {
      limiter.restorePeer({TestKey(peer).key().fingerprint, 1, {0.25, 1}}, kNow);
    });
  }
  return test.interruptions();
}

}  // namespace

int main() {
  // Shows how far it came if a check fails.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const size_t count = testRate() + testOrderbook() + testDirect();
#if defined(__x86_64__)
  require(count > 500, "operations have many writes");
#endif
  std::printf("shared crash: passed, %zu interruptions\n", count);
}

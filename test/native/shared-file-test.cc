// Shared files that are hostile, damaged or too large, processes that end or stop while they hold a
// shard, and a comparison of shared with private limiters. .ci/run builds it with sanitizers.

#include <fcntl.h>
#include <sys/stat.h>

#include <random>
#include <vector>

#include "../../native/limiters/snapshot-walk.h"
#include "shared-file-processes.h"
#include "shared-file-room.h"

namespace {

enum class Removal { kRefused, kAllowed };

// Changes a file of which nobody has an attachment, and requires that it is refused and stays as it
// is, unless it is removed: as long as it begins as our files do, it is ours.
void requireRefusalAfter(const char* text, Removal removal,
                         const std::function<void(int file)>& change) {
  TestFile file;
  createFile(file);
  const int descriptor = open(file.path(), O_RDWR);
  change(descriptor);
  close(descriptor);
  const std::string before = contentOf(file.path());
  requireRefusal(file.path(), text);
  SharedError error;
  const bool isRemoved = SharedRegion::remove(file.path(), error);
  if (removal == Removal::kAllowed) {
    require(isRemoved && !error && access(file.path(), F_OK) != 0, "our file is removed");
    return;
  }
  require(!isRemoved && error, "such a file is not removed");
  require(contentOf(file.path()) == before, "such a file stays as it is");
}

void testUnsafeFiles() {
  {
    TestFile file;
    mkdir(file.path(), 0700);
    requireRefusal(file.path(), "");
    rmdir(file.path());
  }
  {
    TestFile file;
    TestFile target;
    createFile(target);
    require(symlink(target.path(), file.path()) == 0, "a link is created");
    requireRefusal(file.path(), "symbolic link");
  }
  {
    TestFile file;
    mkfifo(file.path(), 0600);
    requireRefusal(file.path(), "no regular file");
  }
  {
    TestFile file;
    TestFile other;
    createFile(file);
    require(link(file.path(), other.path()) == 0, "a hard link is created");
    requireRefusal(file.path(), "several links");
  }
  if (geteuid() == 0) {
    TestFile file;
    createFile(file);
    require(chown(file.path(), 12345, 12345) == 0, "root gives a file away");
    requireRefusal(file.path(), "another user");
  }
  requireRefusalAfter("mode is not 0600", Removal::kRefused, [](int file) { fchmod(file, 0640); });
  requireRefusalAfter("too short", Removal::kRefused,
                      [](int file) { require(ftruncate(file, 0) == 0, "cut"); });
  requireRefusalAfter("too short", Removal::kAllowed,
                      [](int file) { require(ftruncate(file, 100) == 0, "cut"); });
  requireRefusalAfter("too short", Removal::kAllowed,
                      [](int file) { require(ftruncate(file, 100000) == 0, "cut"); });
  requireRefusalAfter("too long", Removal::kAllowed,
                      [](int file) { require(ftruncate(file, 100 << 20) == 0, "longer"); });
  const auto write = [](size_t offset, const void* bytes, size_t size) {
    return [=](int file) {
      require(pwrite(file, bytes, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size),
              "a file is changed");
    };
  };
  requireRefusalAfter("not created by relay-limiter", Removal::kRefused, write(0, "x", 1));
  const uint32_t version = kSharedLayout + 1;
  requireRefusalAfter("another version", Removal::kAllowed,
                      write(offsetof(SharedHeader::Founding, version), &version, sizeof version));
  const uint32_t order = 0x04030201;
  requireRefusalAfter("byte order", Removal::kAllowed,
                      write(offsetof(SharedHeader::Founding, byteOrder), &order, sizeof order));
  const uint32_t word = 4;
  requireRefusalAfter("word size", Removal::kAllowed,
                      write(offsetof(SharedHeader::Founding, wordBytes), &word, sizeof word));
  const uint64_t shards = 1 << 20;
  requireRefusalAfter(
      "damaged", Removal::kAllowed,
      write(offsetof(SharedHeader::Founding, layout) + offsetof(SharedLayout, shards), &shards,
            sizeof shards));
  std::mt19937 random(1);
  std::vector<unsigned char> bytes(200000);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  requireRefusalAfter("not created by relay-limiter", Removal::kRefused,
                      write(0, bytes.data(), bytes.size()));
  // An intact start of the header.
  requireRefusalAfter("damaged", Removal::kAllowed, write(64, bytes.data(), 4000));
}

// A file that this user may not open, and a folder in which it may not create one.
void testPermission() {
  if (geteuid() != 0) return;
  TestFile file;
  TestFile folder;
  createFile(file);
  require(mkdir(folder.path(), 0700) == 0, "there is a folder");
  const std::string inside = std::string(folder.path()) + "/table";
  const pid_t child = inChild([&] {
    require(setgid(12345) == 0 && setuid(12345) == 0, "a child is another user");
    requireRefusal(file.path(), "Permission denied");
    requireRefusal(inside.c_str(), "Permission denied");
    SharedError error;
    require(!SharedRegion::remove(file.path(), error) && error, "it is not removed");
  });
  int status;
  require(waitpid(child, &status, 0) == child && status == 0, "a lack of rights ends no process");
  require(rmdir(folder.path()) == 0, "nothing is left behind");
}

void testDisagreement() {
  TestFile file;
  createFile(file);
  requireRefusal(file.path(), "rateLimit 10, not 11", {11, 20, kInfinity, 1000});
  requireRefusal(file.path(), "burstLimit 20, not 20.5", {10, 20.5, kInfinity, 1000});
  requireRefusal(file.path(), "disconnectThreshold inf, not 3", {10, 20, 3, 1000});
  requireRefusal(file.path(), "maxPeers 1000, not 999", {10, 20, kInfinity, 999});
  requireRefusal<SharedOrderbook, OrderbookConfig>(
      file.path(), "its limiter is RateLimiter, not OrderbookRateLimiter",
      {10, 4, 2, 3, 100, 1000});
  SharedRate limiter(kRate);
  attach(limiter, file);
  require(limiter.region().path() == std::string(file.path()), "a limiter knows its path");
}

void testSize() {
  SharedError error;
  for (const double maxPeers : {0.0, -1.0, kInfinity, 1e9, std::nan("")}) {
    SharedRate limiter({10, 20, kInfinity, maxPeers});
    TestFile file;
    require(!limiter.attach(file.path(), kSecret, error) &&
                std::strstr(error.message, "maxPeers") != nullptr && access(file.path(), F_OK) != 0,
            "a size that is none is refused");
  }
  requireRefusal("/dev/shm/relay-limiter-missing/file", "cannot be created");
  // A page is full before the others, but no peer is refused.
  for (const double maxPeers : {1.0, 10.0, 476.0, 477.0, 1000.0}) {
    TestFile file;
    SharedRate limiter({10, 20, kInfinity, maxPeers});
    attach(limiter, file);
    for (unsigned peer = 0; peer < 3000; ++peer) {
      require(checkRate(limiter, peer) == Verdict::kAllowed, "a newcomer is allowed");
    }
    SharedStatistics statistics;
    require(limiter.readStatistics(statistics), "there are statistics");
    const auto peers = static_cast<double>(statistics.peers);
    require(peers >= maxPeers && peers <= std::ceil(1.25 * maxPeers) + 4,
            "a file stores maxPeers, and at most a quarter more");
    require(maxPeers > 476 || peers == maxPeers, "a single shard stores exactly maxPeers");
    require(statistics.counters.evictions == 3000 - statistics.peers, "the others were evicted");
    stateOf(limiter);
  }
}

void testRemoval() {
  TestFile file;
  SharedRate old(kRate);
  attach(old, file);
  for (unsigned i = 0; i < 20; ++i) checkRate(old, 1);
  SharedError error;
  require(!old.region().isDetached(), "a file has its path");
  require(SharedRegion::remove(file.path(), error), "a file is removed");
  require(!SharedRegion::remove(file.path(), error) && !error, "a file is removed once");
  require(old.region().isDetached(), "who is attached sees that");
  require(checkRate(old, 1) == Verdict::kRefused, "and goes on");
  SharedRate later(kRate);
  attach(later, file);
  require(checkRate(later, 1) == Verdict::kAllowed, "newcomers have another file");
  unlink(file.path());
  require(later.region().isDetached(), "a removal by others is seen");
}

// Limiters of another version are told nothing, so it is not removed while they use it.
void testRemovalOfAnotherLayout() {
  TestFile file;
  {
    SharedRate old(kRate);
    attach(old, file);
    old.region().header().founding.version = kSharedLayout + 1;
#if !defined(RELAY_LIMITER_NO_BYTE_LOCKS)
    SharedError error;
    require(!SharedRegion::remove(file.path(), error), "a file in use stays");
    require(std::strstr(error.message, "in use") != nullptr, "the error says so");
    require(!old.region().isDetached(), "the file has its path");
#endif
  }
  SharedError unset;
  require(SharedRegion::remove(file.path(), unset) && !unset, "an unused file is removed");
  attach(*std::make_unique<SharedRate>(kRate), file);
}

void testBoot() {
  TestFile file;
  SharedRate old(kRate);
  attach(old, file);
  for (unsigned i = 0; i < 20; ++i) checkRate(old, 1);
  SharedHeader& header = old.region().header();
  std::strcpy(header.founding.boot.text, "another boot");
  header.seal();
  requireRefusal(file.path(), "another monotonic clock");
  old.detach();
  SharedRate later(kRate);
  attach(later, file);
  require(checkRate(later, 1) == Verdict::kAllowed, "a file of an earlier boot starts empty");
}

// Of a file of an earlier boot only the bans are kept.
void testBansAfterBoot() {
  const OrderbookConfig config{10, 4, 2, 3, 100, 1000};
  TestFile file;
  const double now = monotonicSeconds();
  {
    SharedOrderbook old(config);
    attach(old, file);
    for (unsigned peer = 0; peer < 20; ++peer) {
      TestKey test(peer);
      old.withPeer(test.key(), now, [&](auto& core, const Key& key, double time) {
        for (unsigned i = 0; i < 1 + peer; ++i) {
          core.check(key, core.allowedAt().find(key.fingerprint), time);
        }
      });
    }
    // A ban that is nearly over.
    TestKey test(100);
    old.restore(test.key(), {9, 20, 0, SavedBucket::none()}, now, kMostLookedAt);
    SharedHeader& header = old.region().header();
    std::strcpy(header.founding.boot.text, "another boot");
    header.seal();
    // 30 seconds pass.
    header.wallOffset -= 30;
  }
  SharedOrderbook later(config);
  attach(later, file);
  require(later.secret() == kSecret, "the file has the same secret");
  BanList bans;
  size_t count = 0;
  bool hasMemory = true;
  require(later.readBans(bans, count, monotonicSeconds(), hasMemory), "bans are listed");
  // An allowed request and four violations come before a ban.
  require(count == 15 && bans.size() == 15, "the bans in force are kept, with their keys");
  for (size_t i = 0; i < bans.size(); ++i) {
    require(bans[i].secondsLeft > 0 && bans[i].secondsLeft <= 70.01, "the time of a ban goes on");
  }
  SharedStatistics statistics;
  require(later.readStatistics(statistics) && statistics.peers == 15 &&
              statistics.violations.value() == 0,
          "nothing else is kept");
  stateOf(later);
}

// Fills everything behind the header with random bytes, and uses it.
template <template <class> class Limiter>
void testDamage(const typename SharedLimiter<Limiter>::Config& config, unsigned seed,
                bool isLocked) {
  using Shared = SharedLimiter<Limiter>;
  TestFile file;
  Shared limiter(config);
  attach(limiter, file);
  std::mt19937_64 random(seed);
  const SharedLayout& layout = limiter.layout();
  unsigned char* const bytes = limiter.region().bytes();
  require(limiter.region().file().allocate(layout.namesAt(), layout.shards * layout.nameBytes),
          "there is room");
  for (size_t at = layout.headsAt(); at < layout.totalBytes(); at += 8) {
    const uint64_t word = random() & (at % 3 == 0 ? 0x00ff00ff00ff00ffu : ~uint64_t{0});
    std::memcpy(bytes + at, &word, sizeof word);
  }
  for (uint32_t i = 0; i < layout.shards; ++i) {
    auto* head = reinterpret_cast<ShardHead*>(limiter.region().headAt(i));
    if (!isLocked) head->lock.unlock();
    head->secretVersion = 0;
  }
  const auto useAll = [&] {
    SharedStatistics statistics;
    require(limiter.readStatistics(statistics), "there are statistics");
    BanList bans;
    size_t count;
    bool hasMemory;
    require(limiter.readBans(bans, count, kNow, hasMemory), "bans are listed");
    bans.sortByBeginning();
    bans.keepLongest(3);
    SnapshotWalk<Shared> walk;
    while (!walk.isOver()) {
      require(walk.step(
                  limiter, kNow, 100, [](const Offender& offender, double) { return offender; },
                  [](const Secret*, const SavedDigest&) {}),
              "there is memory for a snapshot");
    }
    for (unsigned peer = 0; peer < 500; ++peer) {
      TestKey key(peer);
      const double now = kNow + peer;
      limiter.withPeer(key.key(), now, [&](auto& core, const Key& found, double time) {
        using Core = std::remove_reference_t<decltype(core)>;
        if constexpr (std::is_same_v<Core, BasicOrderbookLimiter<SharedStorage>>) {
          for (unsigned i = 0; i < 7; ++i) {
            core.check(found, core.allowedAt().find(found.fingerprint), time);
          }
          core.isBanned(found.fingerprint, time + 1000);
        } else {
          for (unsigned i = 0; i < 7; ++i) {
            Bucket* bucket = nullptr;
            core.check(found, bucket, 5, time);
          }
        }
        if (peer % 7 == 0) core.removePeer(found);
      });
      limiter.restore(key.key(), {5, 0.5, 20, {0.5, 1}}, now, kMostLookedAt);
    }
    limiter.cleanup(5, kInfinity, kNow + 500);
  };
  useAll();
  require(limiter.clear(), "it can be cleared");
  useAll();
}

// The version of the secret in a shard is not that of the header.
void testDamagedSecret() {
  TestFile file;
  SharedRate limiter(kRate);
  attach(limiter, file);
  for (uint32_t i = 0; i < limiter.layout().shards; ++i) {
    auto* head = reinterpret_cast<ShardHead*>(limiter.region().headAt(i));
    head->secretVersion = 7 + i;
  }
  for (unsigned peer = 0; peer < 50; ++peer) {
    require(checkRate(limiter, peer) == Verdict::kAllowed, "a check ends");
  }
  require(limiter.secretVersion() == 0, "the version of the header counts");
}

void testAllDamage() {
  testDamagedSecret();
  for (unsigned seed = 0; seed < 20; ++seed) {
    const bool isLocked = seed % 2 == 0;
    testDamage<BasicRateLimiter>({0.5, 3, 8, 1000}, seed, isLocked);
    testDamage<BasicOrderbookLimiter>({10, 4, 2, 3, 100, 1000}, seed, isLocked);
    testDamage<BasicDirectLimiter>({0.5, 3, 20, 4, 100, 1000}, seed, isLocked);
  }
}

}  // namespace

int main() {
  StoppedJoiner stopped;
  testUnsafeFiles();
  testPermission();
  testDisagreement();
  testSize();
  testRemoval();
  testRemovalOfAnotherLayout();
  testBoot();
  testBansAfterBoot();
  testSlots();
  testDeadHolder();
  testCleaners();
  testStoppedHolder();
  testKilledCreator();
  testAllDamage();
  testInterruptedAllocation();
  testFullDisk();
  testWithoutMappings();
  testSimultaneousStart();
  testCopyOnFullDisk();
  stopped.end();
  std::puts("shared files: passed");
}

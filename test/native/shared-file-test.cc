// Shared files that are hostile, damaged or too large, processes that end or stop while they hold a
// shard, and a comparison of shared with private limiters. .ci/run builds it with sanitizers.

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <functional>
#include <random>
#include <vector>

#include "../../native/limiters/snapshot-walk.h"
#include "shared-limiters.h"

namespace {

constexpr RateLimiterConfig kRate{10, 20, kInfinity, 1000};
constexpr double kNow = 1000;

Verdict checkRate(SharedRate& limiter, unsigned peer, double now = kNow, double cost = 1) {
  TestKey key(peer);
  Key copy = key.key();
  SharedBucketCheck<SharedRate> check{cost, now};
  return checkShared(limiter, copy, check);
}

// Attaches with this config, which must fail with this code and text.
template <class Limiter = SharedRate, class Config = RateLimiterConfig>
void requireRefusal(const char* path, const char* text, const Config& config = kRate,
                    const char* code = "ERR_LIMITER_SHARED") {
  Limiter limiter(config);
  SharedError error;
  const bool attached = limiter.attach(path, kSecret, error);
  if (!attached && std::strcmp(error.code, code) == 0 &&
      std::strstr(error.message, text) != nullptr && std::strstr(error.message, path) != nullptr) {
    return;
  }
  std::fprintf(stderr, "%s: %s, not %s\n", attached ? "attached" : error.code, error.message, text);
  require(false, "an unsafe file is refused");
}

void createFile(const TestFile& file) {
  SharedRate limiter(kRate);
  attach(limiter, file);
  checkRate(limiter, 1);
}

std::string contentOf(const char* path) {
  std::string content;
  const int file = open(path, O_RDONLY);
  char bytes[4096];
  for (ssize_t n; (n = read(file, bytes, sizeof bytes)) > 0;) {
    content.append(bytes, static_cast<size_t>(n));
  }
  close(file);
  return content;
}

// Changes a file of which nobody has an attachment, and requires that it is refused and stays as it
// is.
void requireRefusalAfter(const char* text, const std::function<void(int file)>& change) {
  TestFile file;
  createFile(file);
  const int descriptor = open(file.path(), O_RDWR);
  change(descriptor);
  close(descriptor);
  const std::string before = contentOf(file.path());
  requireRefusal(file.path(), text);
  SharedError error;
  require(!SharedRegion::remove(file.path(), error) && error, "such a file is not removed");
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
  requireRefusalAfter("mode is not 0600", [](int file) { fchmod(file, 0640); });
  requireRefusalAfter("too short", [](int file) { require(ftruncate(file, 0) == 0, "cut"); });
  requireRefusalAfter("too short", [](int file) { require(ftruncate(file, 100) == 0, "cut"); });
  requireRefusalAfter("too short", [](int file) { require(ftruncate(file, 100000) == 0, "cut"); });
  requireRefusalAfter("too long",
                      [](int file) { require(ftruncate(file, 100 << 20) == 0, "longer"); });
  const auto write = [](size_t offset, const void* bytes, size_t size) {
    return [=](int file) {
      require(pwrite(file, bytes, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size),
              "a file is changed");
    };
  };
  requireRefusalAfter("not created by relay-limiter", write(0, "x", 1));
  const uint32_t version = kSharedLayout + 1;
  requireRefusalAfter("another version",
                      write(offsetof(SharedHeader::Founding, version), &version, sizeof version));
  const uint32_t order = 0x04030201;
  requireRefusalAfter("byte order",
                      write(offsetof(SharedHeader::Founding, byteOrder), &order, sizeof order));
  const uint32_t word = 4;
  requireRefusalAfter("word size",
                      write(offsetof(SharedHeader::Founding, wordBytes), &word, sizeof word));
  const uint64_t shards = 1 << 20;
  requireRefusalAfter(
      "damaged", write(offsetof(SharedHeader::Founding, layout) + offsetof(SharedLayout, shards),
                       &shards, sizeof shards));
  std::mt19937 random(1);
  std::vector<unsigned char> bytes(200000);
  for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
  requireRefusalAfter("not created by relay-limiter", write(0, bytes.data(), bytes.size()));
  // An intact start of the header.
  requireRefusalAfter("damaged", write(64, bytes.data(), 4000));
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

void testSlots() {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < kAttachSlots + 100) return;
  TestFile file;
  std::vector<std::unique_ptr<SharedRate>> limiters;
  for (unsigned i = 0; i < kAttachSlots; ++i) {
    limiters.emplace_back(new SharedRate(kRate));
    attach(*limiters.back(), file);
  }
  requireRefusal(file.path(), "1024 limiters already");
  unsigned count = 0;
  limiters[0]->region().eachAttached([&](uint32_t pid, double) {
    require(pid == static_cast<uint32_t>(getpid()), "an attached limiter has a process");
    ++count;
  });
  require(count == kAttachSlots, "all limiters are listed");
  limiters.pop_back();
  SharedRate limiter(kRate);
  attach(limiter, file);
}

// Runs `use` in a child.
pid_t inChild(const std::function<void()>& use) {
  const pid_t child = fork();
  if (child != 0) return child;
  use();
  _exit(0);
}

// A child attaches, locks the shard of a peer, and calls `use`.
pid_t holdShard(const TestFile& file, const std::function<void()>& use) {
  return inChild([&] {
    SharedRate own(kRate);
    attach(own, file);
    TestKey key(1);
    Key copy = key.key();
    SharedRate::Visit visit(own, copy, Patience::kShort);
    use();
  });
}

void testDeadHolder() {
  TestFile file;
  SharedRate limiter(kRate);
  attach(limiter, file);
  checkRate(limiter, 1);
  const pid_t child = holdShard(file, [] { _exit(0); });
  waitpid(child, nullptr, 0);
  require(checkRate(limiter, 1) == Verdict::kAllowed, "the lock of a dead process is taken over");
  stateOf(limiter);
  // The one that cleans up may end as well.
  waitpid(inChild([&] {
            SharedRate own(kRate);
            attach(own, file);
            own.region().header().cleaner.store(own.region().nextWord());
          }),
          nullptr, 0);
  require(limiter.cleanup(0, 1000, kNow + 100) == 1, "another one cleans up");
}

void testStoppedHolder() {
  for (const int ending : {SIGCONT, SIGKILL}) {
    TestFile file;
    SharedRate limiter(kRate);
    attach(limiter, file);
    checkRate(limiter, 1);
    const pid_t child = holdShard(file, [] { raise(SIGSTOP); });
    int status;
    require(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "a child stops");
    for (int i = 0; i < 100; ++i) {
      require(checkRate(limiter, 1) == Verdict::kStalled, "the shard is stalled");
    }
    require(limiter.stalledBy() == static_cast<uint32_t>(child), "its holder is named");
    require(!limiter.removePeer(TestKey(1).key()) && !limiter.clear(), "other calls fail");
    SharedStatistics statistics;
    require(!limiter.readStatistics(statistics), "statistics would be wrong");
    unsigned others = 0;
    for (unsigned peer = 2; peer < 50; ++peer) {
      others += checkRate(limiter, peer) == Verdict::kAllowed;
    }
    require(others > 0, "peers of other shards are checked");
    limiter.cleanup(kInfinity, kInfinity, kNow);
    kill(child, ending);
    waitpid(child, &status, 0);
    require(WIFEXITED(status) == (ending == SIGCONT), "the child ends");
    require(checkRate(limiter, 1) == Verdict::kAllowed, "the shard is not stalled any more");
    limiter.readStatistics(statistics);
    require(statistics.violations.value() == 0, "a stalled check is no violation");
    stateOf(limiter);
  }
}

size_t pathsBeginningWith(const std::string& path) {
  const size_t slash = path.rfind('/');
  size_t count = 0;
  DIR* folder = opendir(path.substr(0, slash).c_str());
  while (const dirent* entry = readdir(folder)) {
    count += std::strncmp(entry->d_name, path.c_str() + slash + 1, path.size() - slash - 1) == 0;
  }
  closedir(folder);
  return count;
}

// A process that is killed while it creates a file leaves nothing behind for long.
void testKilledCreator() {
  TestFile file;
  const std::string path = file.path();
  const auto create = [&](const auto& prepare) {
    waitpid(inChild([&] {
              SharedRegion region;
              SharedError error;
              const SharedLayout layout = SharedRate(kRate).layout();
              const auto layoutFor = [&](const SharedLayout*, SharedError&) { return &layout; };
              region.attach(
                  file.path(), layoutFor, kSecret, prepare, [] {}, error);
            }),
            nullptr, 0);
  };
  create([](SharedError&) -> bool { _exit(0); });
#if defined(RELAY_LIMITER_NO_TMPFILE)
  require(pathsBeginningWith(path) == 1, "a temporary path is left");
#else
  require(pathsBeginningWith(path) == 0, "a file without a path leaves nothing");
#endif
  // As a creator that lives, and a file that only looks similar.
  const std::string locked = path + ".7-f.new";
  const std::string other = path + ".7-g.new";
  const int lockedFile = open(locked.c_str(), O_RDWR | O_CREAT, 0600);
  require(flock(lockedFile, LOCK_EX) == 0, "a file is locked");
  close(open(other.c_str(), O_RDWR | O_CREAT, 0600));
  create([](SharedError&) { return true; });
  require(pathsBeginningWith(path) == 3, "only the path without a creator is removed");
  // The creator was killed when the file had its path, but also the temporary one.
  const std::string second = path + ".8-a.new";
  require(link(file.path(), second.c_str()) == 0, "a file gets a second path");
  {
    SharedRate limiter(kRate);
    attach(limiter, file);
  }
  require(pathsBeginningWith(path) == 3 && access(second.c_str(), F_OK) != 0,
          "the temporary path is removed");
  close(lockedFile);
  unlink(locked.c_str());
  unlink(other.c_str());
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

// Mounts a file system of so many bytes that only this process sees, and calls `use` there. Does
// nothing if the system does not allow that.
void onSmallDisk(size_t bytes, const std::function<void(const std::string& path)>& use) {
  const pid_t child = inChild([&] {
    const std::string options = "mode=700,size=" + std::to_string(bytes);
    const char* const folder = "/dev/shm";
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(2);
    mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (mount("tmpfs", folder, "tmpfs", 0, options.c_str()) != 0) _exit(2);
    use(std::string(folder) + "/relay-limiter-test");
  });
  int status;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
    std::puts("shared files: not tested on a full disk, because mounting is not allowed");
    return;
  }
  require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a full disk ends no process");
}

// A signal may interrupt each allocation that takes longer than the time between two signals.
void testInterruptedAllocation() {
  constexpr off_t kMost = 300 << 10;
  for (const off_t bytes : {off_t{4096}, off_t{1} << 20, off_t{200} << 20}) {
    off_t next = 4096;
    unsigned interruptions = 0;
    const int failure = posix::inPieces(4096, bytes, [&](off_t offset, off_t piece) {
      require(offset == next && piece > 0, "pieces follow each other");
      if (piece > kMost) {
        ++interruptions;
        require(interruptions < 100, "smaller pieces are not interrupted");
        return EINTR;
      }
      next += piece;
      return 0;
    });
    require(failure == 0 && next == 4096 + bytes, "all of it is allocated");
    require(interruptions > 0 || bytes <= kMost, "large pieces are tried first");
  }
  require(posix::inPieces(0, 4096, [](off_t, off_t) { return ENOSPC; }) == ENOSPC,
          "another failure ends it");
}

void testFullDisk() {
  const size_t eager = SharedRate(kRate).layout().namesAt();
  onSmallDisk(eager - 8192, [](const std::string& path) {
    requireRefusal(path.c_str(), "bytes", kRate, "ERR_LIMITER_MEMORY");
    require(access(path.c_str(), F_OK) != 0, "nothing is left behind");
  });
  // Room for a few keys.
  onSmallDisk(eager + 3 * 4096, [](const std::string& path) {
    SharedRate limiter(kRate);
    SharedError error;
    require(limiter.attach(path.c_str(), kSecret, error), "the file fits");
    for (unsigned peer = 0; peer < 1000; ++peer) {
      for (unsigned i = 0; i < 21; ++i) checkRate(limiter, peer);
    }
    SharedStatistics statistics;
    require(limiter.readStatistics(statistics), "there are statistics");
    require(statistics.violations.value() == 1000, "every violation is counted");
    require(statistics.unnamed > 500 && statistics.unnamed < 1000, "some keys are not stored");
    stateOf(limiter);
  });
  // A limit of the process instead of the disk.
  const pid_t child = inChild([] {
    const struct rlimit limit = {100000, 100000};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    TestFile file;
    requireRefusal(file.path(), "bytes", kRate, "ERR_LIMITER_MEMORY");
    require(access(file.path(), F_OK) != 0, "nothing is left behind");
  });
  int status;
  require(waitpid(child, &status, 0) == child && status == 0, "a limit ends no process");
}

}  // namespace

int main() {
  testUnsafeFiles();
  testDisagreement();
  testSize();
  testRemoval();
  testBoot();
  testBansAfterBoot();
  testSlots();
  testDeadHolder();
  testStoppedHolder();
  testKilledCreator();
  testAllDamage();
  testInterruptedAllocation();
  testFullDisk();
  std::puts("shared files: passed");
}

// Tests of processes that end or stop while they create, join or use a shared file.
#pragma once

#include <dirent.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <memory>
#include <vector>

#include "children.h"
#include "shared-files.h"

inline void testSlots() {
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

// A child attaches, locks the shard of a peer, and calls `use`.
inline pid_t holdShard(const TestFile& file, const std::function<void()>& use) {
  return inChild([&] {
    SharedRate own(kRate);
    attach(own, file);
    TestKey key(1);
    Key copy = key.key();
    SharedRate::Visit visit(own, copy, Patience::kShort);
    use();
  });
}

inline void testDeadHolder() {
  TestFile file;
  SharedRate limiter(kRate);
  attach(limiter, file);
  checkRate(limiter, 1);
  const pid_t child = holdShard(file, [] { _exit(0); });
  waitpid(child, nullptr, 0);
  require(checkRate(limiter, 1) == Verdict::kAllowed, "the lock of a dead process is taken over");
  stateOf(limiter);
}

class Cleaner : public SharedRate {
 public:
  explicit Cleaner(const TestFile& file) : SharedRate(kRate) { ::attach(*this, file); }

  using SharedRate::beginCleaning;
  using SharedRate::endCleaning;
};

// One limiter at a time cleans up with a budget, but a stopped one keeps nobody from it for long.
inline void testCleaners() {
  TestFile file;
  SharedRate limiter(kRate);
  attach(limiter, file);
  double time = kNow;
  const auto requireCleaned = [&](const char* what) {
    checkRate(limiter, 1, time);
    time += 100;
    require(limiter.cleanup(0, 1000, time) == 1, what);
  };
  waitpid(inChild([&] { Cleaner(file).beginCleaning(1000); }), nullptr, 0);
  requireCleaned("another one cleans up if one has ended");
  Cleaner first(file);
  Cleaner second(file);
  Cleaner third(file);
  const double now = monotonicSeconds();
  // Also where the milliseconds begin again.
  const double wrap = 4294967.296;
  for (const double began : {now, wrap - 1.002, 5 * wrap - 0.5}) {
    require(first.beginCleaning(5, began), "one cleans up");
    require(!second.beginCleaning(5, began + 1), "another one does not");
    require(second.beginCleaning(5, began + 1.1), "but if the first goes on for too long");
    first.endCleaning();
    require(!third.beginCleaning(5, began + 1.2), "it then ends nothing of the second");
    second.endCleaning();
    require(third.beginCleaning(1e9, began + 1.2), "a limiter that has ended lets others clean");
    require(!first.beginCleaning(5, began + 61), "a large budget takes its time");
    require(first.beginCleaning(5, began + 62), "but no more than a minute");
    first.endCleaning();
  }
  require(first.beginCleaning(5, now - 10), "a limiter is stopped in a cleanup");
  requireCleaned("another one cleans up some seconds later");
  const auto inAnHour = static_cast<uint32_t>(static_cast<uint64_t>((now + 3600) * 1000));
  limiter.region().header().cleaner.store(first.region().name() | inAnHour);
  requireCleaned("a damaged word keeps nobody from it");
}

inline void testStoppedHolder() {
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

inline size_t pathsBeginningWith(const std::string& path) {
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
inline void testKilledCreator() {
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
  {
    CreationLock lock;
    CreationLock other;
    require(lock.tryLock(file.path()) && !other.tryLock(file.path()), "a creator locks the folder");
    lock.unlock();
    require(other.tryLock(file.path()), "until it has created the file, or is killed");
  }
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

// A process that waits for one that is stopped while it joins. It takes some seconds, so other
// tests run meanwhile.
class StoppedJoiner {
 public:
  StoppedJoiner() {
    createFile(file_);
    joiner_ = inChild([&] {
      const SharedLayout layout = SharedRate(kRate).layout();
      const auto layoutFor = [&](const SharedLayout*, SharedError&) {
        raise(SIGSTOP);
        return &layout;
      };
      SharedRegion region;
      SharedError error;
      region.attach(
          file_.path(), layoutFor, kSecret, [](SharedError&) { return true; }, [] {}, error);
    });
    int status;
    require(waitpid(joiner_, &status, WUNTRACED) == joiner_ && WIFSTOPPED(status),
            "a child stops while it joins");
    waiting_ = inChild([&] {
      const std::string name = "process " + std::to_string(joiner_) + " has been joining";
      requireRefusal(file_.path(), name.c_str());
    });
  }

  // The file can be used again when the stopped process has ended.
  void end() {
    int status;
    require(waitpid(waiting_, &status, 0) == waiting_ && status == 0,
            "the error names the process that has been waited for");
    kill(joiner_, SIGKILL);
    waitpid(joiner_, nullptr, 0);
    SharedRate limiter(kRate);
    attach(limiter, file_);
  }

 private:
  TestFile file_;
  pid_t joiner_ = 0;
  pid_t waiting_ = 0;
};

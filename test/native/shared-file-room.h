// Tests of shared files for which there is little or no room.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "shared-files.h"
#include "small-disk.h"

// A signal may interrupt each allocation that takes longer than the time between two signals.
inline void testInterruptedAllocation() {
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

inline unsigned long sleepsOf(pid_t process) {
  std::FILE* file = std::fopen(("/proc/" + std::to_string(process) + "/status").c_str(), "r");
  unsigned long count = 0;
  char line[256];
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr) {
    std::sscanf(line, "voluntary_ctxt_switches: %lu", &count);
  }
  if (file != nullptr) std::fclose(file);
  return count;
}

// Waits until a child has ended or has slept some times since.
inline void awaitSleeps(pid_t child, unsigned long since) {
  siginfo_t ended = {};
  while (ended.si_pid == 0 && sleepsOf(child) < since + 10) {
    waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT);
    sleepMicroseconds(1000);
  }
}

// There is room for one table, and a second process comes while the first has allocated its own,
// but nobody can see it.
inline void testSimultaneousStart() {
  const SharedLayout layout = SharedRate(kRate).layout();
  onSmallDisk(layout.namesAt() * 3 / 2, [&](const std::string& path) {
    int gate[2];
    require(pipe(gate) == 0, "there is a pipe");
    const pid_t second = inChild([&] {
      char byte;
      require(read(gate[0], &byte, 1) == 1, "the first one creates the file");
      SharedRate own(kRate);
      SharedError error;
      if (own.attach(path.c_str(), kSecret, error)) return;
      std::fprintf(stderr, "%s\n", error.message);
      _exit(3);
    });
    const auto prepare = [&](SharedError&) {
      const unsigned long since = sleepsOf(second);
      require(write(gate[1], "x", 1) == 1, "the second one begins");
      awaitSleeps(second, since);
      return true;
    };
    SharedRegion region;
    SharedError error;
    const auto layoutFor = [&](const SharedLayout*, SharedError&) { return &layout; };
    require(region.attach(
                path.c_str(), layoutFor, kSecret, prepare, [] {}, error),
            "the first one creates the file");
    int status;
    require(waitpid(second, &status, 0) == second && status == 0,
            "the second one needs no room for a table of its own");
  });
}

// Copies a file without the blocks that have only zeros.
inline void copyWithHoles(const std::string& from, const std::string& to) {
  const std::string content = contentOf(from.c_str());
  const int file = open(to.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  const std::string zeros(4096, '\0');
  for (size_t at = 0; at < content.size(); at += zeros.size()) {
    const std::string block = content.substr(at, zeros.size());
    if (block == zeros) continue;
    const ssize_t written = pwrite(file, block.data(), block.size(), static_cast<off_t>(at));
    require(written == static_cast<ssize_t>(block.size()), "a block is copied");
  }
  require(ftruncate(file, static_cast<off_t>(content.size())) == 0, "the copy is as long");
  close(file);
}

// Using a hole when there is no room would end the process.
inline void testCopyOnFullDisk() {
  onSmallDisk(size_t{SharedRate(kRate).layout().totalBytes()} * 3, [](const std::string& path) {
    const std::string copy = path + "-copy";
    {
      SharedRate limiter(kRate);
      SharedError error;
      require(limiter.attach(path.c_str(), kSecret, error), "the file fits");
      for (unsigned i = 0; i < 20; ++i) checkRate(limiter, 1);
    }
    copyWithHoles(path, copy);
    const std::string filler = fillDisk(path);
    requireRefusal(copy.c_str(), "bytes, 0 are free", kRate, "ERR_LIMITER_MEMORY");
    require(access(copy.c_str(), F_OK) == 0, "the copy stays");
    unlink(filler.c_str());
    SharedRate limiter(kRate);
    SharedError error;
    require(limiter.attach(copy.c_str(), kSecret, error), "there is room for the copy");
    require(checkRate(limiter, 1) == Verdict::kRefused, "the copy has the same content");
    require(limiter.region().file().allocatedBytes() >= limiter.layout().totalBytes(),
            "the copy is allocated");
  });
}

// From now on, mapping a file fails as on a file system that cannot do it. False if the system does
// not allow that.
inline bool forbidMappings() {
  constexpr auto kArguments = static_cast<uint32_t>(offsetof(seccomp_data, args));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  constexpr uint32_t kLow = 4;
#else
  constexpr uint32_t kLow = 0;
#endif
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
      // The descriptor is the fifth argument; memory has none.
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArguments + 4 * 8 + kLow),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ~0u, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENODEV),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof filter / sizeof *filter, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

inline void testWithoutMappings() {
  TestFile file;
  TestFile missing;
  createFile(file);
  const pid_t child = inChild([&] {
    if (!forbidMappings()) _exit(2);
    requireRefusal(file.path(), "cannot be mapped: No such device");
    requireRefusal(missing.path(), "cannot be created: No such device");
    require(access(missing.path(), F_OK) != 0, "nothing is left behind");
  });
  int status;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
    std::puts("shared files: not tested without mappings, because filters are not allowed");
    return;
  }
  require(status == 0, "a file system without mappings ends no process");
}

inline void testFullDisk() {
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

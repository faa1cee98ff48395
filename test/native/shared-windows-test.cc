// Shared files on Windows: joining, the locks of ended processes, and removal. .ci/run compiles it
// with MinGW and runs it under Wine.
//
//   shared-windows-test              runs all tests; starts itself in the other ways
//   shared-windows-test hold PATH    ends while it holds a shard
//   shared-windows-test create PATH  ends while it creates a file

#include <windows.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../native/shared/checks.h"
#include "require.h"

using namespace relay_limiter;

namespace {

using SharedRate = SharedLimiter<BasicRateLimiter>;

constexpr RateLimiterConfig kRate{0.001, 3, kInfinity, 1000};
constexpr Secret kSecret{1, 2};
constexpr double kNow = 1000;
constexpr UINT kEnded = 5;

Key keyOf(const char16_t* text) {
  const size_t length = std::char_traits<char16_t>::length(text);
  return {fingerprintOf(text, length, kSecret), text, length};
}

Verdict check(SharedRate& limiter) {
  Key key = keyOf(u"alice");
  SharedBucketCheck<SharedRate> bucketCheck{1, kNow};
  return checkShared(limiter, key, bucketCheck);
}

void attach(SharedRate& limiter, const std::string& path) {
  SharedError error;
  if (limiter.attach(path.c_str(), kSecret, error)) return;
  std::fprintf(stderr, "%s\n", error.message);
  require(false, "a limiter attaches");
}

[[noreturn]] void end() {
  TerminateProcess(GetCurrentProcess(), kEnded);
  std::abort();
}

// Runs this program in another way until it ends.
void start(const char* program, const char* way, const std::string& path) {
  std::string command = std::string("\"") + program + "\" " + way + " \"" + path + "\"";
  STARTUPINFOA startup = {};
  startup.cb = sizeof startup;
  PROCESS_INFORMATION process;
  require(CreateProcessA(nullptr, &command[0], nullptr, nullptr, FALSE, 0, nullptr, nullptr,
                         &startup, &process) != 0,
          "a process starts");
  DWORD code = 0;
  WaitForSingleObject(process.hProcess, INFINITE);
  GetExitCodeProcess(process.hProcess, &code);
  CloseHandle(process.hProcess);
  CloseHandle(process.hThread);
  require(code == kEnded, "a process ends in the middle");
}

size_t countFiles(const std::string& pattern) {
  WIN32_FIND_DATAA entry;
  const HANDLE search = FindFirstFileA(pattern.c_str(), &entry);
  if (search == INVALID_HANDLE_VALUE) return 0;
  size_t count = 1;
  while (FindNextFileA(search, &entry) != 0) ++count;
  FindClose(search);
  return count;
}

void testAll(const char* program, const std::string& path) {
  // Process ids are used again, so a failed test may have left this file.
  DeleteFileA(path.c_str());
  SharedError error;
  require(!SharedRegion::remove(path.c_str(), error) && !error, "there is no file");
  start(program, "create", path);
  require(countFiles(path + "*") == 1, "a killed creator leaves a temporary path");
  {
    CreationLock lock;
    CreationLock other;
    require(lock.tryLock(path.c_str()), "a killed creator leaves no lock");
    require(!other.tryLock(path.c_str()), "one process at a time creates a file");
    lock.unlock();
    require(other.tryLock(path.c_str()), "the next one may create it then");
  }
  {
    SharedRate one(kRate);
    attach(one, path);
    require(countFiles(path + "*") == 1, "the next creator removes it");
    SharedRate two(kRate);
    attach(two, path);
    require(check(one) == Verdict::kAllowed && check(two) == Verdict::kAllowed, "two tokens");
    start(program, "hold", path);
    require(check(one) == Verdict::kAllowed, "the lock of an ended process is taken over");
    require(check(two) == Verdict::kRefused, "all together have three tokens");
    unsigned attached = 0;
    one.region().eachAttached([&](uint32_t pid, double) {
      require(pid == GetCurrentProcessId(), "an ended process is not attached");
      ++attached;
    });
    require(attached == 2, "both limiters are attached");
    require(!one.region().isDetached(), "the path leads to the file");
    SharedRate other({5, 3, kInfinity, 1000});
    require(!other.attach(path.c_str(), kSecret, error) &&
                std::strstr(error.message, "rateLimit 0.001, not 5") != nullptr,
            "other numbers are refused");
    SharedError used;
    require(
        !SharedRegion::remove(path.c_str(), used) && std::strstr(used.message, "in use") != nullptr,
        "a file in use stays");
    require(check(one) == Verdict::kRefused, "its limiters go on");
  }
  {
    SharedRate later(kRate);
    attach(later, path);
    require(check(later) == Verdict::kRefused, "a file outlives its limiters");
  }
  {
    SharedRate old(kRate);
    attach(old, path);
    SharedHeader& header = old.region().header();
    std::strcpy(header.founding.boot.text, "another boot");
    header.seal();
  }
  {
    SharedRate later(kRate);
    attach(later, path);
    require(check(later) == Verdict::kAllowed, "a file of an earlier boot is replaced");
    require(!later.region().isDetached(), "the path leads to the new file");
  }
  SharedError unset;
  require(SharedRegion::remove(path.c_str(), unset) && !unset, "an unused file is removed");
  require(countFiles(path + "*") == 0, "nothing is left");
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 3) {
    SharedError error;
    if (std::strcmp(arguments[1], "create") == 0) {
      SharedRegion region;
      const SharedLayout layout = SharedRate(kRate).layout();
      region.attach(
          arguments[2], [&](const SharedLayout*, SharedError&) { return &layout; }, kSecret,
          [](SharedError&) -> bool { end(); }, [] {}, error);
    }
    SharedRate limiter(kRate);
    attach(limiter, arguments[2]);
    Key key = keyOf(u"alice");
    const SharedRate::Visit visit(limiter, key, Patience::kShort);
    end();
  }
  char folder[MAX_PATH];
  require(GetTempPathA(sizeof folder, folder) != 0, "there is a folder");
  testAll(arguments[0],
          std::string(folder) + "relay-limiter-test-" + std::to_string(GetCurrentProcessId()));
  std::puts("shared files on Windows: passed");
}

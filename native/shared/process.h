// What a process knows of itself and of the machine, to be compared with what another process has
// written to a shared file.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "../limiters/clock.h"

#if defined(_WIN32)
#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#include <sys/types.h>
#endif
#endif

namespace relay_limiter {

// Text that differs after each boot, and between processes whose monotonic clocks differ. Empty if
// the system does not say.
struct Boot {
  char text[96] = {};
};

// Milliseconds since 1970.
inline double wallMilliseconds() noexcept {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

// The seconds of the wall clock less those of the monotonic clock.
inline double wallOffsetNow() noexcept { return wallMilliseconds() / 1000 - monotonicSeconds(); }

#if defined(_WIN32)

inline uint32_t processId() noexcept { return GetCurrentProcessId(); }

inline void sleepMicroseconds(unsigned microseconds) noexcept {
  Sleep(microseconds < 1000 ? 1 : microseconds / 1000);
}

inline void yieldProcessor() noexcept { SwitchToThread(); }

inline Boot currentBoot() noexcept {
  Boot boot;
  DWORD number = 0;
  DWORD size = sizeof number;
  const LSTATUS status =
      RegGetValueW(HKEY_LOCAL_MACHINE,
                   L"SYSTEM\\CurrentControlSet\\Control\\Session Manager\\Memory "
                   L"Management\\PrefetchParameters",
                   L"BootId", RRF_RT_REG_DWORD, nullptr, &number, &size);
  if (status == ERROR_SUCCESS) std::snprintf(boot.text, sizeof boot.text, "boot %lu", number);
  return boot;
}

#else

inline uint32_t processId() noexcept { return static_cast<uint32_t>(getpid()); }

inline void sleepMicroseconds(unsigned microseconds) noexcept {
  struct timespec pause = {0, static_cast<long>(microseconds) * 1000};
  nanosleep(&pause, nullptr);
}

inline void yieldProcessor() noexcept { sched_yield(); }

inline Boot currentBoot() noexcept {
  Boot boot;
#if defined(__linux__)
  if (std::FILE* file = std::fopen("/proc/sys/kernel/random/boot_id", "re")) {
    if (std::fscanf(file, "%47s", boot.text) != 1) boot.text[0] = 0;
    std::fclose(file);
  }
  // Processes of different time namespaces have different monotonic clocks.
  const size_t length = std::strlen(boot.text);
  const ssize_t read =
      readlink("/proc/self/ns/time", boot.text + length, sizeof boot.text - 1 - length);
  boot.text[length + (read > 0 ? static_cast<size_t>(read) : 0)] = 0;
#elif defined(__APPLE__)
  size_t size = sizeof boot.text - 1;
  if (sysctlbyname("kern.bootsessionuuid", boot.text, &size, nullptr, 0) != 0) boot.text[0] = 0;
#endif
  return boot;
}

#endif

// RELAY_LIMITER_NO_BYTE_LOCKS, and RELAY_LIMITER_NO_TMPFILE in file-posix.h: tests of the other
// ways define them. Systems with 32 bits have no shared files, and the locks of bytes there need a
// recent glibc.
#if defined(RELAY_LIMITER_NO_BYTE_LOCKS)
#elif defined(_WIN32) || (defined(__linux__) && UINTPTR_MAX > UINT32_MAX)
#else
#define RELAY_LIMITER_NO_BYTE_LOCKS
#endif

#if defined(RELAY_LIMITER_NO_BYTE_LOCKS)

// When a process began, in microseconds; 0 if the system does not say. A process id may be used
// again, but not by a process that began at the same time.
inline uint64_t processStart(uint32_t pid) noexcept {
#if defined(__APPLE__)
  int query[] = {CTL_KERN, KERN_PROC, KERN_PROC_PID, static_cast<int>(pid)};
  struct kinfo_proc process;
  size_t size = sizeof process;
  if (sysctl(query, 4, &process, &size, nullptr, 0) != 0 || size == 0) return 0;
  const struct timeval& start = process.kp_proc.p_starttime;
  return static_cast<uint64_t>(start.tv_sec) * 1000000 + static_cast<uint64_t>(start.tv_usec);
#else
  static_cast<void>(pid);
  return 0;
#endif
}

inline bool isProcessAlive(uint32_t pid, uint64_t start) noexcept {
  if (kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return false;
  return start == 0 || processStart(pid) == start;
}

#endif

}  // namespace relay_limiter

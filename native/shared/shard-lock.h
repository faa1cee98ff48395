// ShardLock locks a shard for one limiter. The lock word names its holder.
//
// A limiter that finds a lock taken spins, then yields, then sleeps. After a millisecond it asks
// whether the holder is still attached. If it is not, its process has ended in the middle of a
// change: the limiter takes the lock and must repair the shard. If it is attached but has not moved
// for 50 ms, the shard is stalled: the lock stays with its holder, which would otherwise write on
// into a shard that others have changed meanwhile, and nobody waits for it again.
#pragma once

#include <atomic>
#include <cstdint>

#include "region.h"

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#elif defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#endif

namespace relay_limiter {

enum class Locked {
  kYes,
  // The last holder has ended in the middle of a change.
  kMustRepair,
  // Not locked: the holder is alive but stopped.
  kStalled,
};

class ShardLock {
 public:
  Locked lock(SharedRegion& region) noexcept {
    uint64_t free = 0;
    if (word_.compare_exchange_strong(free, region.nextWord(), std::memory_order_acquire)) {
      return Locked::kYes;
    }
    return wait(region);
  }

  void unlock() noexcept { word_.store(0, std::memory_order_release); }

  // The lock word of the holder; 0 without one.
  uint64_t holder() const noexcept { return word_.load(std::memory_order_relaxed); }

 private:
  // How long a limiter waits for the same holder, in seconds.
  static constexpr double kStallSeconds = 0.05;
  // How long it waits if holders change, but it never gets the lock.
  static constexpr double kMostSeconds = 1;
  static constexpr double kAskSeconds = 0.001;
  static constexpr unsigned kSpins = 64;
  static constexpr unsigned kYields = 16;

  RELAY_LIMITER_NOINLINE Locked wait(SharedRegion& region) noexcept {
    double began = 0;
    double since = 0;
    double asked = 0;
    uint64_t last = 0;
    for (unsigned n = 0;; ++n) {
      uint64_t found = 0;
      if (word_.compare_exchange_strong(found, region.nextWord(), std::memory_order_acquire)) {
        return Locked::kYes;
      }
      const bool isStalled = found == stalled_.load(std::memory_order_relaxed);
      if (!isStalled && n < kSpins) {
        spin();
        continue;
      }
      if (!isStalled && n < kSpins + kYields) {
        yieldProcessor();
        continue;
      }
      const double now = monotonicSeconds();
      if (began == 0) began = now;
      if (found != last) {
        last = found;
        since = asked = now;
      }
      if (isStalled || now - asked >= kAskSeconds) {
        asked = now;
        if (!region.isAlive(found)) {
          if (word_.compare_exchange_strong(found, region.nextWord(), std::memory_order_acquire)) {
            return Locked::kMustRepair;
          }
          continue;
        }
      }
      if (isStalled || now - began >= kMostSeconds) return Locked::kStalled;
      if (now - since >= kStallSeconds) {
        stalled_.store(found, std::memory_order_relaxed);
        return Locked::kStalled;
      }
      sleepMicroseconds(now - began < kAskSeconds ? 50 : 500);
    }
  }

  static void spin() noexcept {
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
    _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
    asm volatile("yield");
#endif
  }

  // 0: free.
  std::atomic<uint64_t> word_;
  // The lock word of a holder that has kept others waiting too long.
  std::atomic<uint64_t> stalled_;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free || sizeof(void*) < 8,
              "a lock in shared memory must not use a lock of the process");

}  // namespace relay_limiter

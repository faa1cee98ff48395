// ShardLock locks a shard for one limiter. The lock word names its holder.
//
// A limiter that finds a lock taken spins, then yields, then sleeps. After a millisecond it asks
// whether the holder is still attached. If it is not, its process has ended in the middle of a
// change: the limiter takes the lock and must repair the shard. If it is attached but does not go
// on (lock-wait.h says how long a call waits), the shard is stalled: the lock stays with its
// holder.
#pragma once

#include <atomic>
#include <cstdint>

#include "lock-wait.h"
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
  // Not locked: the holder is attached, but has not gone on for too long.
  kStalled,
};

class ShardLock {
 public:
  Locked lock(SharedRegion& region, Patience patience) noexcept {
    return tryLock(region) ? Locked::kYes : wait(region, patience);
  }

  // False if it is locked.
  bool tryLock(SharedRegion& region) noexcept {
    uint64_t free = 0;
    return word_.compare_exchange_strong(free, region.nextWord(), std::memory_order_acquire);
  }

  void unlock() noexcept { word_.store(0, std::memory_order_release); }

  // The lock word of the holder; 0 without one.
  uint64_t holder() const noexcept { return word_.load(std::memory_order_relaxed); }

 private:
  static constexpr unsigned kSpins = 64;
  static constexpr unsigned kYields = 16;

  RELAY_LIMITER_NOINLINE Locked wait(SharedRegion& region, Patience patience) noexcept {
    LockWait wait(patience);
    for (unsigned n = 0;; ++n) {
      uint64_t found = 0;
      if (word_.compare_exchange_strong(found, region.nextWord(), std::memory_order_acquire)) {
        return Locked::kYes;
      }
      if (n < kSpins + kYields) {
        if (n < kSpins) {
          spin();
        } else {
          yieldProcessor();
        }
        continue;
      }
      wait.meet(found, mark_, monotonicSeconds());
      if (wait.mustAsk() && !region.isAlive(found)) {
        if (word_.compare_exchange_strong(found, region.nextWord(), std::memory_order_acquire)) {
          return Locked::kMustRepair;
        }
        continue;
      }
      if (wait.isOver()) return Locked::kStalled;
      sleepMicroseconds(wait.sleepMicroseconds());
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
  // See LockWait.
  std::atomic<uint64_t> mark_;
};

enum class LockedAll { kYes, kDeclined, kStalled };

// Locks the heads 0 to count - 1 in ascending order. lock(i, patience) locks one of them,
// unlock(i) unlocks it, and accept(i) is called while it is locked: false ends the whole. Unless
// all are locked, none is.
//
// A stopped holder must not stall other shards as well. So a head that stays locked for longer than
// briefly is waited for while no other is locked; then the call begins again, for as long as a call
// waits in all.
template <class Lock, class Unlock, class Accept>
LockedAll lockAll(uint32_t count, Patience patience, Lock&& lock, Unlock&& unlock,
                  Accept&& accept) noexcept {
  double began = -1;
  const auto mayBeginAgain = [&began] {
    const double now = monotonicSeconds();
    if (began < 0) began = now;
    return now - began < LockWait::kLongSeconds;
  };
  uint32_t locked = 0;
  const auto unlockAll = [&] {
    while (locked > 0) unlock(--locked);
  };
  while (locked < count) {
    if (lock(locked, locked == 0 ? patience : Patience::kBrief)) {
      if (accept(locked++)) continue;
      unlockAll();
      return LockedAll::kDeclined;
    }
    const uint32_t awaited = locked;
    if (awaited == 0) return LockedAll::kStalled;
    unlockAll();
    if (!mayBeginAgain() || !lock(awaited, patience)) return LockedAll::kStalled;
    unlock(awaited);
  }
  return LockedAll::kYes;
}

static_assert(std::atomic<uint64_t>::is_always_lock_free || sizeof(void*) < 8,
              "a lock in shared memory must not use a lock of the process");

}  // namespace relay_limiter

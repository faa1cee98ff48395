// LockWait decides how long a call waits for a shard that another limiter has locked.
//
// A holder that is stopped keeps its lock, because it would otherwise write on into a shard that
// others have changed meanwhile. Nothing tells it from a holder that gets no processor time, so
// calls wait longer than a busy machine makes them. They wait once: the mark of a lock says since
// when its present holder has kept any call waiting, and a call that comes later waits only for the
// rest.
#pragma once

#include <atomic>
#include <cstdint>

namespace relay_limiter {

// How long calls wait for one holder.
enum class Patience {
  // A call that has locked other shards meanwhile.
  kBrief,
  // A check, which can refuse the peer, and a cleanup, which can leave the shard out.
  kShort,
  // Calls that would fail.
  kLong,
};

class LockWait {
 public:
  static constexpr double kShortSeconds = 0.2;
  // Also how long a call waits in all if holders change, but it never gets the lock.
  static constexpr double kLongSeconds = 1;
  static constexpr double kAskSeconds = 0.001;
  // Longer than kAskSeconds, so that a dead holder is found.
  static constexpr double kBriefSeconds = 0.002;

  static constexpr double secondsOf(Patience patience) noexcept {
    if (patience == Patience::kBrief) return kBriefSeconds;
    return patience == Patience::kShort ? kShortSeconds : kLongSeconds;
  }

  explicit LockWait(Patience patience) noexcept : most_(secondsOf(patience)) {}

  // Call this in each turn of the wait, with the lock word found, and before the other methods.
  void meet(uint64_t holder, std::atomic<uint64_t>& mark, double now) noexcept {
    if (began_ < 0) began_ = now;
    now_ = now;
    // One word for both, because several calls write it at a time. The milliseconds begin again
    // after 49 days, so only differences count.
    const auto milliseconds = static_cast<uint32_t>(static_cast<uint64_t>(now * 1000));
    uint64_t found = mark.load(std::memory_order_relaxed);
    if (found >> 32 != nameOf(holder)) {
      found = static_cast<uint64_t>(nameOf(holder)) << 32 | milliseconds;
      mark.store(found, std::memory_order_relaxed);
    }
    const auto waited = static_cast<int32_t>(milliseconds - static_cast<uint32_t>(found));
    waited_ = waited > 0 ? waited / 1000.0 : 0;
  }

  // Whether to ask now if the holder is still attached. True at most once in a millisecond.
  bool mustAsk() noexcept {
    if (waited_ < kAskSeconds || now_ - asked_ < kAskSeconds) return false;
    asked_ = now_;
    return true;
  }

  // Whether the call gives up.
  bool isOver() const noexcept { return waited_ >= most_ || now_ - began_ >= kLongSeconds; }

  unsigned sleepMicroseconds() const noexcept { return waited_ < kAskSeconds ? 50 : 500; }

 private:
  // 32 bits of a lock word's hash, never 0, which is the name in the mark of a new lock. Lock words
  // that follow each other, and those of different limiters, have unrelated names.
  static constexpr uint32_t nameOf(uint64_t holder) noexcept {
    const auto name = static_cast<uint32_t>(holder * 0x9e3779b97f4a7c15 >> 32);
    return name == 0 ? 1 : name;
  }

  const double most_;
  double began_ = -1;
  double now_ = 0;
  double asked_ = -1;
  // By all calls, for the present holder, in seconds.
  double waited_ = 0;
};

}  // namespace relay_limiter

// The engine's own clock.
#pragma once

#include <chrono>

namespace relay_limiter {

// Monotonic seconds since some fixed instant. About 25 ns.
inline double monotonicSeconds() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace relay_limiter

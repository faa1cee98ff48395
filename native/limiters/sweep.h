// Sweep visits whole tables in slices; a time budget limits each slice. Counterpart of
// lib/engine/js/sweep.ts.
#pragma once

#include <cstdint>

#include "arithmetic.h"
#include "clock.h"

namespace relay_limiter {

class Sweep {
 public:
  // Runs passes 0 to `passes` - 1. For each it calls step(pass, cursor) until that returns false.
  // The last passes may be left out if they have nothing to visit. A call with a finite budget
  // resumes where the last such call stopped; a call with an infinite budget starts at pass 0.
  template <class Step>
  void run(unsigned passes, double budgetMs, Step&& step) noexcept {
    const bool bounded = budgetMs < kInfinity;
    const double deadline = bounded ? monotonicSeconds() + budgetMs / 1000 : kInfinity;
    if (!bounded) stop();
    while (pass_ < passes) {
      if (!step(pass_, cursor_)) {
        ++pass_;
        cursor_ = 0;
      }
      if (bounded && monotonicSeconds() >= deadline) break;
    }
    if (pass_ >= passes) stop();
  }

  // Whether the last run with a budget stopped before the end.
  bool isUnderway() const noexcept { return pass_ > 0 || cursor_ > 0; }

  // Makes the next run start at pass 0.
  void stop() noexcept {
    pass_ = 0;
    cursor_ = 0;
  }

 private:
  unsigned pass_ = 0;
  uint64_t cursor_ = 0;
};

}  // namespace relay_limiter

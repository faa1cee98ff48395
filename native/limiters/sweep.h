// Sweep: visits whole tables in slices that a time budget cuts. Twin of lib/engine/js/sweep.ts.
#pragma once

#include <cstdint>

#include "arithmetic.h"
#include "clock.h"

namespace relay_limiter {

class Sweep {
 public:
  // Calls step(pass, cursor) until it has returned false, which ends a pass, for each of `passes`:
  // passes at the end that would find nothing may be left out.
  // A call with a finite budget goes on where the last such call stopped; one without starts
  // afresh.
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

  // Whether the last run with a budget stopped before its end.
  bool isUnderway() const noexcept { return pass_ > 0 || cursor_ > 0; }

  // Forgets the place: the next run starts from the first pass.
  void stop() noexcept {
    pass_ = 0;
    cursor_ = 0;
  }

 private:
  unsigned pass_ = 0;
  uint64_t cursor_ = 0;
};

}  // namespace relay_limiter

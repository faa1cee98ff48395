// SortedRuns sorts any number of items in bounded steps. Items are added one by one to runs of a
// fixed size. Each run is sorted when it is full, and a heap of the runs returns all items in
// order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace relay_limiter {

// `Item` must be trivially copyable and have operator<.
template <class Item>
class SortedRuns {
 public:
  // The number of items in a run: sorting so many takes less than a millisecond.
  static constexpr size_t kRunItems = 8192;

  SortedRuns() noexcept = default;
  ~SortedRuns() noexcept {
    for (size_t i = 0; i < count_; ++i) delete[] runs_[i].items;
    std::free(runs_);
  }
  SortedRuns(const SortedRuns&) = delete;
  SortedRuns& operator=(const SortedRuns&) = delete;

  // False if there is no memory; then nothing has changed.
  bool add(const Item& item) noexcept {
    if ((count_ == 0 || runs_[count_ - 1].end == kRunItems) && !addRun()) return false;
    Run& run = runs_[count_ - 1];
    run.items[run.end++] = item;
    if (run.end == kRunItems) std::sort(run.items, run.items + kRunItems);
    return true;
  }

  // Call this after the last add() and before the first take().
  void finish() noexcept {
    if (count_ == 0) return;
    Run& last = runs_[count_ - 1];
    std::sort(last.items, last.items + last.end);
    remaining_ = count_;
    std::make_heap(runs_, runs_ + remaining_, isLater);
  }

  // The smallest item, which take() removes; nullptr if there is none.
  const Item* next() const noexcept {
    return remaining_ == 0 ? nullptr : &runs_[0].items[runs_[0].next];
  }

  // Removes the smallest item and writes it to `item`; false if there is none.
  bool take(Item& item) noexcept {
    if (remaining_ == 0) return false;
    std::pop_heap(runs_, runs_ + remaining_, isLater);
    Run& run = runs_[remaining_ - 1];
    item = run.items[run.next++];
    if (run.next == run.end) {
      --remaining_;
    } else {
      std::push_heap(runs_, runs_ + remaining_, isLater);
    }
    return true;
  }

 private:
  struct Run {
    Item* items;
    // The indices of the next item to take, and behind the last one.
    size_t next;
    size_t end;
  };

  static bool isLater(const Run& a, const Run& b) noexcept {
    return b.items[b.next] < a.items[a.next];
  }

  bool addRun() noexcept {
    if (count_ == capacity_) {
      const size_t capacity = capacity_ == 0 ? 8 : capacity_ * 2;
      void* runs = std::realloc(static_cast<void*>(runs_), capacity * sizeof(Run));
      if (runs == nullptr) return false;
      runs_ = static_cast<Run*>(runs);
      capacity_ = capacity;
    }
    auto* items = new (std::nothrow) Item[kRunItems];
    if (items == nullptr) return false;
    runs_[count_++] = {items, 0, 0};
    return true;
  }

  Run* runs_ = nullptr;
  size_t count_ = 0;
  size_t capacity_ = 0;
  // The number of runs that still have items. They come first in `runs_` and form a heap.
  size_t remaining_ = 0;
};

}  // namespace relay_limiter

// SortedRuns: puts any number of items in order in bounded steps. Items come in one by one; each
// run of them is sorted by itself as it fills up, and a heap of the runs gives them back in order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace relay_limiter {

// `Item` is copied as bytes and has operator<.
template <class Item>
class SortedRuns {
 public:
  // Items of a run: sorting one takes less than a millisecond.
  static constexpr size_t kRun = 8192;

  SortedRuns() noexcept = default;
  ~SortedRuns() noexcept {
    for (size_t i = 0; i < count_; ++i) delete[] runs_[i].items;
    std::free(runs_);
  }
  SortedRuns(const SortedRuns&) = delete;
  SortedRuns& operator=(const SortedRuns&) = delete;

  // False if there is no memory.
  bool add(const Item& item) noexcept {
    if ((count_ == 0 || runs_[count_ - 1].end == kRun) && !newRun()) return false;
    Run& run = runs_[count_ - 1];
    run.items[run.end++] = item;
    if (run.end == kRun) std::sort(run.items, run.items + kRun);
    return true;
  }

  // After the last item, and before the first that is taken.
  void finish() noexcept {
    if (count_ == 0) return;
    Run& last = runs_[count_ - 1];
    std::sort(last.items, last.items + last.end);
    left_ = count_;
    std::make_heap(runs_, runs_ + left_, isLater);
  }

  // The least item that is left; false if there is none.
  bool take(Item& item) noexcept {
    if (left_ == 0) return false;
    std::pop_heap(runs_, runs_ + left_, isLater);
    Run& run = runs_[left_ - 1];
    item = run.items[run.next++];
    if (run.next == run.end) {
      --left_;
    } else {
      std::push_heap(runs_, runs_ + left_, isLater);
    }
    return true;
  }

 private:
  struct Run {
    Item* items;
    size_t next;
    size_t end;
  };

  static bool isLater(const Run& a, const Run& b) noexcept {
    return b.items[b.next] < a.items[a.next];
  }

  bool newRun() noexcept {
    if (count_ == capacity_) {
      const size_t capacity = capacity_ == 0 ? 8 : capacity_ * 2;
      void* runs = std::realloc(static_cast<void*>(runs_), capacity * sizeof(Run));
      if (runs == nullptr) return false;
      runs_ = static_cast<Run*>(runs);
      capacity_ = capacity;
    }
    auto* items = new (std::nothrow) Item[kRun];
    if (items == nullptr) return false;
    runs_[count_++] = {items, 0, 0};
    return true;
  }

  Run* runs_ = nullptr;
  size_t count_ = 0;
  size_t capacity_ = 0;
  // Runs that are not used up: the first ones, a heap.
  size_t left_ = 0;
};

}  // namespace relay_limiter

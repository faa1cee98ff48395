// Registry: the living limiters of one class, by number. The raw functions of a class are the same
// for all its limiters, and are told by such a number which one is meant. A function for each
// limiter would be found faster by none: where a call meets the functions of two limiters, V8 no
// longer knows which one it calls, and takes 17 ns more.
//
// The number, and the other numbers of a call, lie in an array that JavaScript writes before it
// calls: as arguments each would cost some 4 ns.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace relay_limiter {

// Nobody else's in this process, ever: for what may outlive its limiter, whose number and address
// are given again.
inline uint64_t newId() noexcept {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

// What a call of a raw function is told, in the order in which lib/engine/native-limiters.ts writes
// it. One environment has one of them: nothing comes between the writing and the call.
struct CallWords {
  double cost;
  // NaN: the limiter reads its own clock.
  double now;
  int32_t limiter;
};

static_assert(offsetof(CallWords, now) == 8 && offsetof(CallWords, limiter) == 16,
              "JavaScript writes them there");

// Held by its environment and by each limiter that has a number, which may outlive the environment;
// whoever lets go last deletes it. All of them are of one thread.
template <class Self>
class Registry {
 public:
  static constexpr int32_t kNone = -1;

  // `words` outlive every call.
  explicit Registry(const CallWords* words) noexcept : words_(words) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  const CallWords* words() const noexcept { return words_; }

  // nullptr for a number that is nobody's.
  Self* at(int32_t number) const noexcept {
    const auto index = static_cast<uint32_t>(number);
    return index < size_ ? limiters_[index] : nullptr;
  }

  // The lowest number that is nobody's; kNone where there is no memory.
  int32_t add(Self* limiter) noexcept {
    while (lowest_ < size_ && limiters_[lowest_] != nullptr) ++lowest_;
    if (lowest_ == size_ && !grow()) return kNone;
    limiters_[lowest_] = limiter;
    ++holders_;
    return static_cast<int32_t>(lowest_++);
  }

  void remove(int32_t number) noexcept {
    if (number == kNone) return;
    const auto index = static_cast<uint32_t>(number);
    limiters_[index] = nullptr;
    if (index < lowest_) lowest_ = index;
    release();
  }

  void release() noexcept {
    if (--holders_ == 0) delete this;
  }

 private:
  ~Registry() noexcept { std::free(limiters_); }

  bool grow() noexcept {
    const uint32_t size = size_ == 0 ? 8 : size_ * 2;
    if (size > INT32_MAX) return false;
    void* limiters = std::realloc(static_cast<void*>(limiters_), size * sizeof(Self*));
    if (limiters == nullptr) return false;
    limiters_ = static_cast<Self**>(limiters);
    while (size_ < size) limiters_[size_++] = nullptr;
    return true;
  }

  const CallWords* const words_;
  // The environment is the first.
  uint32_t holders_ = 1;
  Self** limiters_ = nullptr;
  uint32_t size_ = 0;
  // No lower number is nobody's.
  uint32_t lowest_ = 0;
};

}  // namespace relay_limiter

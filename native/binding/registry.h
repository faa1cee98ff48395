// Registry: the living objects of one class, by number. The raw functions of a class are the same
// for all its objects, and are told by such a number which one is meant. A function for each
// object would be found faster by none: where a call meets the functions of two objects, V8 no
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
struct CallArguments {
  double cost;
  // NaN: the limiter reads its own clock.
  double now;
  int32_t object;
};

static_assert(offsetof(CallArguments, now) == 8 && offsetof(CallArguments, object) == 16,
              "JavaScript writes them there");

// Held by its environment and by each object that has a number, which may outlive the environment;
// whoever lets go last deletes it. All of them are of one thread.
template <class Self>
class Registry {
 public:
  static constexpr int32_t kNone = -1;

  // `words` outlive every call.
  explicit Registry(const CallArguments* callArguments) noexcept : callArguments_(callArguments) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  const CallArguments* callArguments() const noexcept { return callArguments_; }

  // nullptr for a number that is nobody's.
  Self* at(int32_t number) const noexcept {
    const auto index = static_cast<uint32_t>(number);
    return index < size_ ? objects_[index] : nullptr;
  }

  // The lowest number that is nobody's; kNone where there is no memory.
  int32_t add(Self* object) noexcept {
    while (lowest_ < size_ && objects_[lowest_] != nullptr) ++lowest_;
    if (lowest_ == size_ && !grow()) return kNone;
    objects_[lowest_] = object;
    ++holders_;
    return static_cast<int32_t>(lowest_++);
  }

  void remove(int32_t number) noexcept {
    if (number == kNone) return;
    const auto index = static_cast<uint32_t>(number);
    objects_[index] = nullptr;
    if (index < lowest_) lowest_ = index;
    release();
  }

  void release() noexcept {
    if (--holders_ == 0) delete this;
  }

 private:
  ~Registry() noexcept { std::free(objects_); }

  bool grow() noexcept {
    const uint32_t size = size_ == 0 ? 8 : size_ * 2;
    if (size > INT32_MAX) return false;
    void* objects = std::realloc(static_cast<void*>(objects_), size * sizeof(Self*));
    if (objects == nullptr) return false;
    objects_ = static_cast<Self**>(objects);
    while (size_ < size) objects_[size_++] = nullptr;
    return true;
  }

  const CallArguments* const callArguments_;
  // The environment is the first.
  uint32_t holders_ = 1;
  Self** objects_ = nullptr;
  uint32_t size_ = 0;
  // No lower number is nobody's.
  uint32_t lowest_ = 0;
};

}  // namespace relay_limiter

// Registry: the living objects of one class, by number. All objects of a class share its raw
// functions, which find their object by its number. One function per object would be slower: V8
// cannot predict a call site that calls the functions of two objects, which costs 17 ns more.
//
// JavaScript writes the number, the cost and the time of a call to an array before the call. Each
// of them would cost about 4 ns as a JavaScript argument.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace relay_limiter {

// An id that no other object of this process ever has. A handle may outlive its limiter, and the
// limiter's number and address are reused.
inline uint64_t newId() noexcept {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

// The arguments of a call of a raw function, which lib/engine/native-limiters.ts writes, and the
// delay of a refused check, which it reads after the call. An environment has only one of them,
// because no other call happens in between.
struct CallArguments {
  double cost;
  // NaN: the limiter reads its own clock.
  double now;
  int32_t object;
  // Of a rule limiter: the scopes to ask, and `plan * actions + action`.
  int32_t mask;
  int32_t program;
  // In seconds. A number that a call returns would cost about 19 ns, because V8 allocates it.
  double delay = 0;
};

static_assert(offsetof(CallArguments, now) == 8 && offsetof(CallArguments, object) == 16 &&
                  offsetof(CallArguments, mask) == 20 && offsetof(CallArguments, program) == 24 &&
                  offsetof(CallArguments, delay) == 32,
              "native-limiters.ts and native-rules.ts use these offsets");

// The environment and each object with a number hold one reference; the release of the last one
// deletes the registry. An object may outlive the environment. All of them belong to one thread.
template <class Self>
class Registry {
 public:
  static constexpr int32_t kNone = -1;

  // `callArguments` outlive every call.
  explicit Registry(CallArguments* callArguments) noexcept : callArguments_(callArguments) {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  CallArguments* callArguments() const noexcept { return callArguments_; }

  // nullptr if no object has the number.
  Self* at(int32_t number) const noexcept {
    const auto index = static_cast<uint32_t>(number);
    return index < size_ ? objects_[index] : nullptr;
  }

  // Gives the object the lowest free number. kNone if there is no memory.
  int32_t add(Self* object) noexcept {
    while (lowestFree_ < size_ && objects_[lowestFree_] != nullptr) ++lowestFree_;
    if (lowestFree_ == size_ && !grow()) return kNone;
    objects_[lowestFree_] = object;
    ++references_;
    return static_cast<int32_t>(lowestFree_++);
  }

  void remove(int32_t number) noexcept {
    if (number == kNone) return;
    const auto index = static_cast<uint32_t>(number);
    objects_[index] = nullptr;
    if (index < lowestFree_) lowestFree_ = index;
    release();
  }

  void release() noexcept {
    if (--references_ == 0) delete this;
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

  CallArguments* const callArguments_;
  // The first one is the environment's.
  uint32_t references_ = 1;
  Self** objects_ = nullptr;
  uint32_t size_ = 0;
  // All lower numbers are taken.
  uint32_t lowestFree_ = 0;
};

}  // namespace relay_limiter

// Handles: what JavaScript holds of opened peers and of groups. A handle remembers fingerprints and
// places, owns nothing of a limiter, and is given with each call to the limiter it was opened on;
// to another one it is a stranger, refused.
#pragma once

#include <node_api.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "../records.h"
#include "arguments.h"

namespace relay_limiter {

// How many members ahead of the one it is at a group asks for memory.
constexpr uint32_t kAhead = 32;

struct Handle {
  enum class Kind { kPeer, kGroup };
  const void* limiter;
  Kind kind;
};

struct OpenedPeer : Handle {
  static constexpr Kind kKind = Kind::kPeer;

  OpenedPeer(const void* owner, const Fingerprint& print) noexcept
      : Handle{owner, kKind}, fingerprint(print) {}

  const Fingerprint fingerprint;
  Place<Bucket> place;
};

// The members of a group, in the order of the keys that its JavaScript side holds.
class OpenedGroup : public Handle {
 public:
  static constexpr Kind kKind = Kind::kGroup;

  struct Member {
    Fingerprint fingerprint;
    // Where its bucket was found, or nullptr.
    Bucket* record;
  };

  explicit OpenedGroup(const void* owner) noexcept : Handle{owner, kKind} {}
  ~OpenedGroup() noexcept { std::free(members_); }
  OpenedGroup(const OpenedGroup&) = delete;
  OpenedGroup& operator=(const OpenedGroup&) = delete;

  uint32_t size() const noexcept { return size_; }
  const Member* begin() const noexcept { return members_; }
  Member& operator[](uint32_t index) noexcept { return members_[index]; }

  // False where there is no memory.
  bool add(const Fingerprint& print) noexcept {
    if (size_ == capacity_ && !grow()) return false;
    members_[size_++] = {print, nullptr};
    return true;
  }

  // The last member takes the place of the one at `index`.
  void removeAt(uint32_t index) noexcept {
    if (index < size_) members_[index] = members_[--size_];
  }

  // Looks up all members, where records may have moved since it was done the last time.
  void follow(const Buckets& buckets) noexcept {
    if (epoch_ == buckets.epoch()) return;
    epoch_ = buckets.epoch();
    for (uint32_t i = 0; i < size_; ++i) {
      buckets.prepare(members_[std::min(i + kAhead, size_ - 1)].fingerprint);
      members_[i].record = buckets.find(members_[i].fingerprint);
    }
  }

  // The table's epoch that the members' places are of.
  uint64_t epoch() const noexcept { return epoch_; }

 private:
  bool grow() noexcept {
    const uint32_t capacity = capacity_ == 0 ? 8 : capacity_ * 2;
    if (capacity <= capacity_) return false;
    void* members = std::realloc(static_cast<void*>(members_), capacity * sizeof(Member));
    if (members == nullptr) return false;
    members_ = static_cast<Member*>(members);
    capacity_ = capacity;
    return true;
  }

  Member* members_ = nullptr;
  uint32_t size_ = 0;
  uint32_t capacity_ = 0;
  uint64_t epoch_ = 0;
};

// A JavaScript value that owns `handle`; undefined, an exception pending, where there is no memory.
template <class Opened>
napi_value wrapHandle(napi_env env, Opened* handle) noexcept {
  napi_value result = nullptr;
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Opened*>(data); };
  if (handle == nullptr ||
      napi_create_external(env, handle, finalize, nullptr, &result) != napi_ok) {
    delete handle;
    throwNoMemory(env);
  }
  return result;
}

// The handle in `value`, if this limiter opened it; else nullptr, an exception pending.
template <class Opened>
Opened* handleIn(napi_env env, napi_value value, const void* limiter) noexcept {
  void* data = nullptr;
  if (napi_get_value_external(env, value, &data) == napi_ok && data != nullptr) {
    auto* handle = static_cast<Opened*>(data);
    if (handle->limiter == limiter && handle->kind == Opened::kKind) return handle;
  }
  napi_throw_type_error(env, "ERR_LIMITER_KEY", "not a handle of this limiter");
  return nullptr;
}

}  // namespace relay_limiter

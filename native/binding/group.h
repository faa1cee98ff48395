// Group: what JavaScript holds of one, a handle, and the call that checks its members. A handle
// remembers fingerprints and places, owns nothing of a limiter, and is given with each call to the
// limiter it was opened on; to another one it is a stranger, refused.
#pragma once

#include <node_api.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "../limiters/records.h"
#include "arguments.h"
#include "checks.h"
#include "handle.h"

namespace relay_limiter {

// How many members ahead of the one it is at a group asks for memory.
constexpr uint32_t kAhead = 32;

// Verdicts, as lib/engine/engine.ts calls them.
constexpr uint8_t kVerdictAllow = 0;
constexpr uint8_t kVerdictDelay = 1;
constexpr uint8_t kVerdictDisconnect = 2;

// The members of a group, in the order of the keys that its JavaScript side holds.
class OpenedGroup : public Handle {
 public:
  struct Member {
    Fingerprint fingerprint;
    // Where its bucket was found, or nullptr.
    Bucket* record;
  };

  static constexpr HandleKind kKind = HandleKind::kGroup;

  OpenedGroup(uint64_t owner, uint32_t secretVersion) noexcept
      : Handle{kKind, owner}, secretVersion_(secretVersion) {}
  ~OpenedGroup() noexcept { std::free(members_); }
  OpenedGroup(const OpenedGroup&) = delete;
  OpenedGroup& operator=(const OpenedGroup&) = delete;

  uint32_t size() const noexcept { return size_; }
  const Member* begin() const noexcept { return members_; }
  Member& operator[](uint32_t index) noexcept { return members_[index]; }

  // False where there is no memory.
  bool add(const Fingerprint& fingerprint) noexcept {
    if (size_ == capacity_ && !grow()) return false;
    members_[size_++] = {fingerprint, nullptr};
    return true;
  }

  // The last member takes the place of the one at `index`.
  void removeAt(uint32_t index) noexcept {
    if (index < size_) members_[index] = members_[--size_];
  }

  // Whether the members' fingerprints are of the limiter's present secret.
  bool isCurrent(uint32_t secretVersion) const noexcept { return secretVersion_ == secretVersion; }

  // All members have got new fingerprints, and are to be looked up.
  void renew(uint32_t secretVersion) noexcept {
    secretVersion_ = secretVersion;
    epoch_ = 0;
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

  // The member's bucket if it still lies where it was found; else nullptr.
  Bucket* recall(uint32_t index, const Buckets& buckets) const noexcept {
    const Member& member = members_[index];
    if (epoch_ != buckets.epoch() || member.record == nullptr) return nullptr;
    return member.record->fingerprint == member.fingerprint ? member.record : nullptr;
  }

  // The table's epoch in which the members' buckets were found.
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
  uint32_t secretVersion_;
};

// What could not be read threw by itself, or there is no such element.
inline void throwUnlessPending(napi_env env) noexcept {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw_type_error(env, "ERR_LIMITER_KEY", "a member has no key");
}

// Answers members from `first` on whose buckets lie where they were found and have the cost, which
// most of them do; returns the first that needs more.
template <class Core>
uint32_t allowMembers(const Core& core, const OpenedGroup& group, uint32_t first, uint8_t* verdicts,
                      double cost, double now) noexcept {
  const auto allows = core.fastPath(cost, now);
  const OpenedGroup::Member* const members = group.begin();
  const uint32_t size = group.size();
  for (uint32_t i = first; i < size; ++i) {
    prefetch(members[std::min(i + kAhead, size - 1)].record);
    Bucket* const bucket = members[i].record;
    if (bucket == nullptr || !(bucket->fingerprint == members[i].fingerprint)) return i;
    if (!allows(*bucket)) return i;
    verdicts[i] = kVerdictAllow;
  }
  return size;
}

// What a member is told of a check that was decided.
inline uint8_t byteOf(Verdict verdict) noexcept {
  if (verdict == Verdict::kAllowed) return kVerdictAllow;
  const bool delays = verdict == Verdict::kRefused || verdict == Verdict::kNoRoom;
  return delays ? kVerdictDelay : kVerdictDisconnect;
}

// Hashes all members' keys anew, since the limiter has another secret than when they were added.
// False, an exception pending, if a key cannot be read.
template <class Self>
RELAY_LIMITER_NOINLINE bool rehashMembers(napi_env env, Self& self, OpenedGroup& group,
                                          napi_value keys) noexcept {
  for (uint32_t i = 0; i < group.size(); ++i) {
    KeyText text;
    if (!readElement(env, keys, i, text)) {
      throwUnlessPending(env);
      return false;
    }
    group[i] = {text.key(self.secret()).fingerprint, nullptr};
  }
  group.renew(self.secretVersion());
  return true;
}

template <class Self>
void checkMembers(napi_env env, Self& self, OpenedGroup& group, napi_value keys, uint8_t* verdicts,
                  const BucketCheck<Self>& check) noexcept {
  const Buckets& buckets = self.core().buckets();
  if (!group.isCurrent(self.secretVersion()) && !rehashMembers(env, self, group, keys)) return;
  group.follow(buckets);
  for (uint32_t i = 0; i < group.size() && i < kAhead; ++i) prefetch(group[i].record);
  for (uint32_t i = 0; i < group.size(); ++i) {
    // If records move before the last member is checked, the rest are looked up one by one.
    if (self.core().canUseFastPath() && group.epoch() == buckets.epoch()) {
      const uint32_t first = i;
      i = allowMembers(self.core(), group, i, verdicts, check.cost, check.now);
      self.core().counters().allowed += i - first;
      if (i == group.size()) return;
    }
    OpenedGroup::Member& member = group[i];
    if (i + kAhead < group.size()) prefetch(group[i + kAhead].record);
    double delay;
    const auto readKey = [&](KeyText& text) { return readElement(env, keys, i, text); };
    member.record = group.recall(i, buckets);
    const Verdict verdict =
        checkRecord(self, check, member.fingerprint, member.record, delay, readKey);
    if (verdict == Verdict::kNoMemory) return throwNoMemory(env);
    if (verdict == Verdict::kNeedsName) return throwUnlessPending(env);
    verdicts[i] = byteOf(verdict);
  }
}

// checkGroup(handle, keys, verdicts): a verdict for each member, all at one
// instant.
template <class Self>
napi_value checkGroup(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 3> call(env, info);
  if (call.object == nullptr) return nullptr;
  Self& self = *call.object;
  auto* group = handleIn<OpenedGroup>(env, call.arguments[0], self.id());
  if (group == nullptr) return nullptr;
  void* bytes = nullptr;
  size_t capacity = 0;
  if (napi_get_typedarray_info(env, call.arguments[2], nullptr, &capacity, &bytes, nullptr,
                               nullptr) != napi_ok ||
      capacity < group->size()) {
    napi_throw_range_error(env, "ERR_LIMITER_OPTION", "verdicts must have a byte for each member");
    return nullptr;
  }
  checkMembers(env, self, *group, call.arguments[1], static_cast<uint8_t*>(bytes),
               BucketCheck<Self>(call));
  self.reportExternalMemory(env);
  return nullptr;
}

}  // namespace relay_limiter

// GroupHandle: the members of a group, and the call that checks them. A group stores the members'
// fingerprints and pointers to their buckets and offenders; it owns no record of the limiter.
#pragma once

#include <node_api.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "../limiters/offender-table.h"
#include "../limiters/records.h"
#include "arguments.h"
#include "checks.h"
#include "handle.h"

namespace relay_limiter {

// How many members ahead a check prefetches.
constexpr uint32_t kPrefetchDistance = 32;

// The verdicts of checkGroup. lib/engine/engine.ts has the same; test/addon.test.ts compares them.
constexpr uint8_t kVerdictAllow = 0;
constexpr uint8_t kVerdictDelay = 1;
constexpr uint8_t kVerdictDisconnect = 2;

// The members of a group, in the order of the keys that JavaScript holds.
class GroupHandle : public Handle {
 public:
  struct Member {
    Fingerprint fingerprint;
    // The addresses at which they were found last; nullptr if the peer had none.
    Bucket* bucket;
    Offender* offender;
  };

  static constexpr HandleKind kKind = HandleKind::kGroup;

  GroupHandle(uint64_t limiterId, uint32_t secretVersion) noexcept
      : Handle{kKind, limiterId}, secretVersion_(secretVersion) {}
  ~GroupHandle() noexcept { std::free(members_); }
  GroupHandle(const GroupHandle&) = delete;
  GroupHandle& operator=(const GroupHandle&) = delete;

  uint32_t size() const noexcept { return size_; }
  const Member* begin() const noexcept { return members_; }
  Member& operator[](uint32_t index) noexcept { return members_[index]; }

  // False if there is no memory.
  bool add(const Fingerprint& fingerprint) noexcept {
    if (size_ == capacity_ && !grow()) return false;
    members_[size_++] = {fingerprint, nullptr, nullptr};
    return true;
  }

  // Moves the last member to `index`.
  void removeAt(uint32_t index) noexcept {
    if (index < size_) members_[index] = members_[--size_];
  }

  // Whether the members' fingerprints were made with the limiter's current secret.
  bool isCurrent(uint32_t secretVersion) const noexcept { return secretVersion_ == secretVersion; }

  // Call this after all members got fingerprints of another secret.
  void setSecretVersion(uint32_t secretVersion) noexcept {
    secretVersion_ = secretVersion;
    epoch_ = 0;
  }

  // Looks up all buckets if records may have moved since the last look-up.
  void refresh(const Buckets& buckets) noexcept {
    if (epoch_ == buckets.epoch()) return;
    epoch_ = buckets.epoch();
    for (uint32_t i = 0; i < size_; ++i) {
      buckets.prepare(members_[std::min(i + kPrefetchDistance, size_ - 1)].fingerprint);
      members_[i].bucket = buckets.find(members_[i].fingerprint);
    }
  }

  // Forgets where the offenders are if they may have moved since then.
  void refreshOffenders(const OffenderTable& offenders) noexcept {
    if (offenderEpoch_ == offenders.epoch()) return;
    offenderEpoch_ = offenders.epoch();
    for (uint32_t i = 0; i < size_; ++i) members_[i].offender = nullptr;
  }

  // The member's offender; nullptr if it is none. Call refreshOffenders() before.
  Offender* offenderAt(uint32_t index, const OffenderTable& offenders) noexcept {
    Member& member = members_[index];
    if (member.offender == nullptr || !(member.offender->fingerprint == member.fingerprint)) {
      member.offender = offenders.find(member.fingerprint);
    }
    return member.offender;
  }

  // The member's bucket if it has not moved since it was found; else nullptr.
  Bucket* bucketAt(uint32_t index, const Buckets& buckets) const noexcept {
    const Member& member = members_[index];
    if (epoch_ != buckets.epoch() || member.bucket == nullptr) return nullptr;
    return member.bucket->fingerprint == member.fingerprint ? member.bucket : nullptr;
  }

  // The table's epoch of the last look-up.
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
  // The epoch of the offenders' table since which the offenders were found.
  uint64_t offenderEpoch_ = 0;
  uint32_t secretVersion_;
};

// Throws after a key could not be read, unless that has thrown.
inline void throwMissingKey(napi_env env) noexcept {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return;
  napi_throw_type_error(env, "ERR_LIMITER_KEY", "every member of a group must have a string key");
}

inline uint8_t verdictByteOf(Verdict verdict) noexcept {
  if (verdict == Verdict::kAllowed) return kVerdictAllow;
  const bool delays =
      verdict == Verdict::kRefused || verdict == Verdict::kNoRoom || verdict == Verdict::kStalled;
  return delays ? kVerdictDelay : kVerdictDisconnect;
}

// Checks members from `first` on, up to one whose bucket has moved or which becomes an offender.
// Returns the index of that member. Most members are checked here.
template <class Core>
uint32_t checkKnownMembers(Core& core, GroupHandle& group, uint32_t first, uint8_t* verdicts,
                           double cost, double now) noexcept {
  const auto allows = core.fastPath(cost, now);
  const GroupHandle::Member* const members = group.begin();
  const OffenderTable& offenders = core.offenders().table();
  group.refreshOffenders(offenders);
  const uint32_t size = group.size();
  uint32_t refused = 0;
  uint32_t i = first;
  for (; i < size; ++i) {
    const GroupHandle::Member& later = members[std::min(i + kPrefetchDistance, size - 1)];
    prefetch(later.bucket);
    Bucket* const bucket = members[i].bucket;
    if (bucket == nullptr || !(bucket->fingerprint == members[i].fingerprint)) break;
    if (allows(*bucket)) {
      verdicts[i] = kVerdictAllow;
      continue;
    }
    // Where one member is refused, others often are.
    prefetch(later.offender);
    const Verdict verdict = core.refuse([&] { return group.offenderAt(i, offenders); });
    if (verdict == Verdict::kNeedsText) break;
    verdicts[i] = verdictByteOf(verdict);
    ++refused;
  }
  core.counters().allowed += i - first - refused;
  return i;
}

// Hashes all members' keys with the limiter's current secret. If a key cannot be read, this returns
// false and an exception is pending.
template <class Self>
RELAY_LIMITER_NOINLINE bool rehashMembers(napi_env env, Self& self, GroupHandle& group,
                                          napi_value keys) noexcept {
  for (uint32_t i = 0; i < group.size(); ++i) {
    KeyText text;
    if (!readElement(env, keys, i, text)) {
      throwMissingKey(env);
      return false;
    }
    group[i] = {text.key(self.secret()).fingerprint, nullptr, nullptr};
  }
  group.setSecretVersion(self.secretVersion());
  return true;
}

template <class Self>
void checkMembers(napi_env env, Self& self, GroupHandle& group, napi_value keys, uint8_t* verdicts,
                  const BucketCheck<Self>& check) noexcept {
  const Buckets& buckets = self.core().buckets();
  if (!group.isCurrent(self.secretVersion()) && !rehashMembers(env, self, group, keys)) return;
  group.refresh(buckets);
  for (uint32_t i = 0; i < group.size() && i < kPrefetchDistance; ++i) prefetch(group[i].bucket);
  for (uint32_t i = 0; i < group.size(); ++i) {
    // If records move before the last member is checked, the rest is looked up one by one.
    if (self.core().canUseFastPath() && group.epoch() == buckets.epoch()) {
      i = checkKnownMembers(self.core(), group, i, verdicts, check.cost, check.now);
      if (i == group.size()) return;
    }
    GroupHandle::Member& member = group[i];
    if (i + kPrefetchDistance < group.size()) prefetch(group[i + kPrefetchDistance].bucket);
    const auto readKey = [&](KeyText& text) { return readElement(env, keys, i, text); };
    member.bucket = group.bucketAt(i, buckets);
    const Verdict verdict = checkRecord(self, check, member.fingerprint, member.bucket, readKey);
    if (verdict == Verdict::kNoMemory) return throwNoMemory(env);
    if (verdict == Verdict::kNeedsText) return throwMissingKey(env);
    verdicts[i] = verdictByteOf(verdict);
  }
}

// Reads the bytes of the array for verdicts. False with a pending exception if they are too few.
inline bool readVerdictBytes(napi_env env, napi_value array, const GroupHandle& group,
                             uint8_t*& verdicts) noexcept {
  void* bytes = nullptr;
  size_t capacity = 0;
  if (napi_get_typedarray_info(env, array, nullptr, &capacity, &bytes, nullptr, nullptr) ==
          napi_ok &&
      capacity >= group.size()) {
    verdicts = static_cast<uint8_t*>(bytes);
    return true;
  }
  napi_throw_range_error(env, "ERR_LIMITER_OPTION", "verdicts must have a byte for each member");
  return false;
}

// checkGroup(handle, keys, verdicts): checks all members at one instant and writes their verdicts.
template <class Self>
napi_value checkGroup(napi_env env, napi_callback_info info) noexcept {
  const Call<Self, 3> call(env, info);
  if (call.object == nullptr) return nullptr;
  Self& self = *call.object;
  auto* group = unwrapHandle<GroupHandle>(env, call.arguments[0], self.id());
  if (group == nullptr) return nullptr;
  uint8_t* verdicts = nullptr;
  if (!readVerdictBytes(env, call.arguments[2], *group, verdicts)) return nullptr;
  checkMembers(env, self, *group, call.arguments[1], verdicts, BucketCheck<Self>(call));
  self.reportExternalMemory(env);
  return nullptr;
}

}  // namespace relay_limiter

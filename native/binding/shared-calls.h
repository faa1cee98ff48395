// The raw functions of limiters in shared files. JavaScript is not called while a shard is locked.
#pragma once

#include "shared-object.h"

namespace relay_limiter {

// How a check is made from the arguments of a call.
template <class ObjectType>
struct SharedBucketCalls {
  using Object = ObjectType;
  using Check = SharedBucketCheck<typename Object::Limiter>;

  template <class Call>
  static Check checkOf(const Call& call) noexcept {
    return {call.cost(), call.now()};
  }
};

template <class ObjectType, auto kCheck>
struct SharedTimeCalls {
  using Object = ObjectType;
  using Check = SharedTimeCheck<typename Object::Limiter, kCheck>;

  template <class Call>
  static Check checkOf(const Call& call) noexcept {
    return {call.now()};
  }
};

// check(key)
template <class Calls>
napi_value checkSharedByKey(napi_env env, napi_callback_info info) noexcept {
  const KeyCall<typename Calls::Object> call(env, info);
  if (call.object == nullptr || !call.object->requireAttached(env)) return nullptr;
  auto check = Calls::checkOf(call);
  Key key = call.key();
  const Verdict verdict = checkShared(call.object->limiter(), key, check);
  if (verdict == Verdict::kAllowed) return nullptr;
  return call.object->answer(env, verdict, check);
}

// The check of an opened peer that needs its key: writes its slot.
template <class Calls>
RELAY_LIMITER_NOINLINE napi_value resolveSharedSlot(napi_env env, typename Calls::Object& object,
                                                    napi_value value,
                                                    typename Calls::Check check) noexcept {
  KeyText text;
  if (!text.read(env, value)) return nullptr;
  Key key = text.key(object.secret());
  PeerSlot slot = object.slotBuffer().read();
  const Verdict verdict = checkShared(object.limiter(), key, check, slot);
  object.slotBuffer().write(slot);
  return object.answer(env, verdict, check);
}

// checkPeer(key): the check of an opened peer. JavaScript has written the peer's slot.
template <class Calls>
napi_value checkSharedBySlot(napi_env env, napi_callback_info info) noexcept {
  const Call<typename Calls::Object, 1> call(env, info);
  if (call.object == nullptr || !call.object->requireAttached(env)) return nullptr;
  auto check = Calls::checkOf(call);
  auto& object = *call.object;
  const Verdict verdict = checkSharedAt(object.limiter(), object.slotBuffer().read(), check);
  if (verdict == Verdict::kAllowed) return nullptr;
  if (verdict == Verdict::kNeedsText) {
    return resolveSharedSlot<Calls>(env, object, call.arguments[0], check);
  }
  return object.answer(env, verdict, check);
}

// Checks one member of a group. kNeedsText if its key cannot be read.
template <class Calls>
Verdict checkSharedMember(napi_env env, typename Calls::Object& object, Fingerprint& fingerprint,
                          napi_value keys, uint32_t index, typename Calls::Check check) noexcept {
  Key key{fingerprint, nullptr, 0};
  const Verdict verdict = checkShared(object.limiter(), key, check);
  if (verdict != Verdict::kNeedsText) return verdict;
  KeyText text;
  if (!readElement(env, keys, index, text)) return verdict;
  key = text.key(object.secret());
  const Verdict second = checkShared(object.limiter(), key, check);
  fingerprint = key.fingerprint;
  return second;
}

// Hashes all members again if the secret of the file has changed. False with a pending exception if
// a key cannot be read.
template <class Object>
bool requireCurrentMembers(napi_env env, Object& object, GroupHandle& group,
                           napi_value keys) noexcept {
  return group.isCurrent(object.secretVersion()) || rehashMembers(env, object, group, keys);
}

// checkGroup(handle, keys, verdicts): checks all members at one instant and writes their verdicts.
template <class Calls>
napi_value checkSharedGroup(napi_env env, napi_callback_info info) noexcept {
  constexpr uint32_t kAhead = 8;
  const Call<typename Calls::Object, 3> call(env, info);
  if (call.object == nullptr || !call.object->requireAttached(env)) return nullptr;
  auto& object = *call.object;
  auto* group = unwrapHandle<GroupHandle>(env, call.arguments[0], object.id());
  uint8_t* verdicts = nullptr;
  if (group == nullptr || !readVerdictBytes(env, call.arguments[2], *group, verdicts)) {
    return nullptr;
  }
  const auto check = Calls::checkOf(call);
  if (!requireCurrentMembers(env, object, *group, call.arguments[1])) return nullptr;
  for (uint32_t i = 0; i < group->size(); ++i) {
    if (i + kAhead < group->size()) object.limiter().prepare((*group)[i + kAhead].fingerprint);
    const Verdict verdict =
        checkSharedMember<Calls>(env, object, (*group)[i].fingerprint, call.arguments[1], i, check);
    if (verdict == Verdict::kNoMemory) throwNoMemory(env);
    if (verdict == Verdict::kNeedsText) throwMissingKey(env);
    if (verdict == Verdict::kNoMemory || verdict == Verdict::kNeedsText) return nullptr;
    verdicts[i] = verdictByteOf(verdict);
    if (!requireCurrentMembers(env, object, *group, call.arguments[1])) return nullptr;
  }
  return nullptr;
}

// A raw function that reads a number of a peer: read(core, key, now).
template <class Object, class Read>
napi_value readShared(napi_env env, napi_callback_info info, Read&& read) noexcept {
  const KeyCall<Object> call(env, info);
  if (call.object == nullptr || !call.object->requireAttached(env)) return nullptr;
  double number = 0;
  const auto use = [&](typename Object::Core& core, const Key& key, double now) {
    number = read(core, key, now);
  };
  if (!call.object->limiter().withPeer(call.key(), call.now(), use)) {
    call.object->throwStalled(env);
    return nullptr;
  }
  napi_value result = nullptr;
  napi_create_double(env, number, &result);
  return result;
}

// tokens(key)
template <class Object>
napi_value sharedTokens(napi_env env, napi_callback_info info) noexcept {
  return readShared<Object>(env, info,
                            [](auto& core, const Key& key, double) { return core.tokens(key); });
}

// refilledTokens(key)
template <class Object>
napi_value sharedRefilledTokens(napi_env env, napi_callback_info info) noexcept {
  return readShared<Object>(env, info, [](auto& core, const Key& key, double now) {
    return core.refilledTokens(key, now);
  });
}

// banSecondsLeft(key)
template <class Object>
napi_value sharedBanSecondsLeft(napi_env env, napi_callback_info info) noexcept {
  return readShared<Object>(env, info, [](auto& core, const Key& key, double now) {
    return core.banSecondsLeft(key.fingerprint, now);
  });
}

// isBanned(key)
template <class Object>
napi_value sharedIsBanned(napi_env env, napi_callback_info info) noexcept {
  bool isBanned = false;
  const napi_value read =
      readShared<Object>(env, info, [&](auto& core, const Key& key, double now) {
        isBanned = core.isBanned(key.fingerprint, now);
        return 0.0;
      });
  if (read == nullptr) return nullptr;
  napi_value result = nullptr;
  napi_get_boolean(env, isBanned, &result);
  return result;
}

}  // namespace relay_limiter

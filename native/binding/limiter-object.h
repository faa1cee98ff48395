// LimiterObject: a limiter as a JavaScript object.
#pragma once

#include <napi.h>

#include "../limiters/clock.h"
#include "core-object.h"
#include "group.h"
#include "report.h"

namespace relay_limiter {

template <class Self, class Core>
class LimiterObject : public CoreObject<Self, Core> {
  using Base = CoreObject<Self, Core>;

 public:
  // `new Class(config, secret, seat)`: secret is a BigUint64Array of two random words, seat the
  // Int32Array in which JavaScript says where an opened peer was found, and we where it is now.
  LimiterObject(const Napi::CallbackInfo& info, const typename Core::Config& config)
      : Base(info, info[1], config), id_(newId()) {
    openSlotBuffer(info);
    core().setDigestKey(secret());
  }

  using Base::core;
  using Base::reportExternalMemory;
  using Base::secret;

  double now() noexcept { return clock_.now(); }
  uint64_t id() const noexcept { return id_; }
  // Another one whenever the limiter has taken over a secret: fingerprints from before are
  // nobody's.
  uint32_t secretVersion() const noexcept { return secretVersion_; }

  PeerSlot peerSlot() const noexcept { return {slotBuffer_[0], slotBuffer_[1], slotBuffer_[2]}; }

  // Where the peer's record lies, for JavaScript to remember.
  template <class Record>
  void writeSlot(const Table<Record>& table, const Fingerprint& fingerprint) noexcept {
    Record* record = table.find(fingerprint);
    const PeerSlot seat = record == nullptr ? PeerSlot::of(fingerprint) : table.slotOf(record);
    slotBuffer_[0] = seat.place;
    slotBuffer_[1] = seat.low;
    slotBuffer_[2] = seat.high;
  }

 protected:
  using typename Base::Calls;
  using typename Base::Methods;

  // The class: methods of its objects, and its raw functions.
  static Napi::Function define(Napi::Env env, const char* name, Registry<Self>& registry,
                               Methods methods, const Calls& calls) {
    methods.insert(methods.end(),
                   {
                       Self::InstanceMethod("removePeer", &Self::removePeer),
                       Self::InstanceMethod("violations", &Self::violations),
                       Self::InstanceMethod("cleanup", &Self::cleanup),
                       Self::InstanceMethod("isCleaning", &Self::isCleaning),
                       Self::InstanceMethod("statistics", &Self::statistics),
                       Self::InstanceMethod("openWalk", &Self::openWalk),
                       Self::InstanceMethod("walk", &Self::walk),
                       Self::InstanceMethod("restoreOffenders", &Self::restoreOffenders),
                       Self::InstanceMethod("adopt", &Self::adopt),
                       Self::InstanceMethod("putDigests", &Self::putDigests),
                       Self::InstanceMethod("clear", &Self::clear),
                   });
    return Base::define(env, name, registry, methods, calls);
  }

  // The methods of limiters whose peers can be put in groups.
  static Methods groupMethods() {
    return {
        Self::InstanceMethod("openGroup", &Self::openGroup),
        Self::InstanceMethod("addMember", &Self::addMember),
        Self::InstanceMethod("removeMember", &Self::removeMember),
    };
  }

  // The methods of limiters that ban.
  static Methods banMethods() {
    return {
        Self::InstanceMethod("bannedKeys", &Self::bannedKeys),
        Self::InstanceMethod("longestBans", &Self::longestBans),
    };
  }

  // A number of the config, or `fallback` where there is none.
  static double numberIn(const Napi::CallbackInfo& info, const char* name, double fallback = 0) {
    if (!info[0].IsObject()) return fallback;
    const Napi::Value value = info[0].As<Napi::Object>().Get(name);
    return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : fallback;
  }

  double nowIn(const Napi::CallbackInfo& info, size_t index) {
    return info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue() : now();
  }

 public:
  void removePeer(const Napi::CallbackInfo& info) {
    KeyText text;
    if (text.read(info.Env(), info[0])) core().removePeer(text.key(secret()));
    reportExternalMemory(info.Env());
  }

  Napi::Value violations(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    const uint64_t count = core().offenders().violations(text.key(secret()).fingerprint);
    return Napi::Number::New(info.Env(), static_cast<double>(count));
  }

  Napi::Value cleanup(const Napi::CallbackInfo& info) {
    const double age = info[0].As<Napi::Number>().DoubleValue();
    const double budgetMs = info[1].As<Napi::Number>().DoubleValue();
    const uint64_t removed = core().cleanup(age, budgetMs, nowIn(info, 2));
    reportExternalMemory(info.Env());
    return Napi::Number::New(info.Env(), static_cast<double>(removed));
  }

  Napi::Value isCleaning(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), core().isCleaning());
  }

  Napi::Value statistics(const Napi::CallbackInfo& info) {
    return statisticsOf(info.Env(), core());
  }

  Napi::Value bannedKeys(const Napi::CallbackInfo& info) {
    return bannedKeysOf(info.Env(), core(), nowIn(info, 0));
  }

  // longestBans(most, now)
  Napi::Value longestBans(const Napi::CallbackInfo& info) {
    const double most = info[0].As<Napi::Number>().DoubleValue();
    return longestBansOf(info.Env(), core(), most, nowIn(info, 1));
  }

  // A handle for walk: what a snapshot holds, in steps.
  Napi::Value openWalk(const Napi::CallbackInfo& info) {
    return wrapped(info.Env(), new (std::nothrow) Walk(id_));
  }

  // walk(handle, most, now): the columns of one step.
  Napi::Value walk(const Napi::CallbackInfo& info) {
    auto* walk = handleIn<Walk>(info.Env(), info[0], id_);
    if (walk == nullptr) return info.Env().Undefined();
    const auto most = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    return walkedOf(info.Env(), core(), secret(), walk->steps, most, nowIn(info, 2));
  }

  // restoreOffenders(keys, numbers, now): such columns, validated; how many were put back.
  Napi::Value restoreOffenders(const Napi::CallbackInfo& info) {
    const double now = nowIn(info, 2);
    // Where room is scarce the worst come first: if nobody can go for one of them, nobody is likely
    // to go for the next.
    unsigned most = kMostLookedAt;
    const auto put = [&](const Key& key, const SavedOffender& saved) {
      const Verdict verdict = core().restore(key, saved, now, most);
      if (verdict == Verdict::kNoRoom) most = kSample;
      return verdict;
    };
    const uint32_t count = restoreFrom(info.Env(), core(), secret(), info[0], info[1], put);
    reportExternalMemory(info.Env());
    return Napi::Number::New(info.Env(), count);
  }

  // adopt(secret): in 32-bit words. A limiter that knows nobody takes it over.
  void adopt(const Napi::CallbackInfo& info) {
    const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
    const Secret other{wordAt(words), wordAt(words + 2)};
    if (!core().isEmpty() || other == secret()) return;
    Base::adopt(other);
    ++secretVersion_;
  }

  // putDigests(secret, digests, numbers, now): the same as restoreOffenders of peers under digests,
  // all in 32-bit words.
  Napi::Value putDigests(const Napi::CallbackInfo& info) {
    const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
    const Secret other{wordAt(words), wordAt(words + 2)};
    const double now = nowIn(info, 3);
    const bool isOwn = other == secret();
    const uint32_t count = restoreDigestsFrom(
        info.Env(), info[1], info[2],
        [&](const Fingerprint& digest) { core().prepareDigest(other, digest); },
        [&](const SavedDigest& saved) { return core().restoreDigest(other, isOwn, saved, now); });
    reportExternalMemory(info.Env());
    return Napi::Number::New(info.Env(), count);
  }

  // A handle for checkGroup, without members.
  Napi::Value openGroup(const Napi::CallbackInfo& info) {
    return wrapped(info.Env(), new (std::nothrow) OpenedGroup(id_, secretVersion_));
  }

  // addMember(group, key): at the end.
  void addMember(const Napi::CallbackInfo& info) {
    auto* group = handleIn<OpenedGroup>(info.Env(), info[0], id_);
    KeyText text;
    if (group == nullptr || !text.read(info.Env(), info[1])) return;
    if (!group->add(text.key(secret()).fingerprint)) throwNoMemory(info.Env());
  }

  // removeMember(group, index): the last member takes its place.
  void removeMember(const Napi::CallbackInfo& info) {
    auto* group = handleIn<OpenedGroup>(info.Env(), info[0], id_);
    if (group != nullptr) group->removeAt(info[1].As<Napi::Number>().Uint32Value());
  }

  void clear(const Napi::CallbackInfo& info) {
    core().clear();
    reportExternalMemory(info.Env());
  }

 private:
  void openSlotBuffer(const Napi::CallbackInfo& info) {
    if (info.Env().IsExceptionPending()) return;
    if (info[2].IsTypedArray()) {
      const auto array = info[2].As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_int32_array && array.ElementLength() == 3) {
        slotBufferReference_ = Napi::Persistent(info[2].As<Napi::Object>());
        slotBuffer_ = info[2].As<Napi::Int32Array>().Data();
        return;
      }
    }
    Napi::TypeError::New(info.Env(), "a seat is three 32-bit words").ThrowAsJavaScriptException();
  }

  struct Walk : Handle {
    static constexpr HandleKind kKind = HandleKind::kWalk;

    explicit Walk(uint64_t owner) noexcept : Handle{kKind, owner} {}

    SnapshotWalk<Core> steps;
  };

  Clock clock_;
  const uint64_t id_;
  uint32_t secretVersion_ = 0;
  // Keeps the words of seat_ in memory.
  Napi::ObjectReference slotBufferReference_;
  int32_t* slotBuffer_ = nullptr;
};

}  // namespace relay_limiter

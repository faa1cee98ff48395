// LimiterObject: a limiter as a JavaScript object.
#pragma once

#include <napi.h>

#include "../limiters/clock.h"
#include "core-object.h"
#include "group.h"
#include "report.h"
#include "slot-buffer.h"

namespace relay_limiter {

template <class Self, class Core>
class LimiterObject : public CoreObject<Self, Core> {
  using Base = CoreObject<Self, Core>;

 public:
  // `new Class(config, secret, slotBuffer)`: `secret` is a BigUint64Array of two random words.
  // `slotBuffer` is an Int32Array of three words. JavaScript writes an opened peer's last slot to
  // it before a check; the check writes the peer's new slot to it if the peer has moved.
  LimiterObject(const Napi::CallbackInfo& info, const typename Core::Config& config)
      : Base(info, info[1], config), id_(newId()) {
    slotBuffer_.open(info.Env(), info[2]);
    core().setDigestKey(secret());
  }

  using Base::core;
  using Base::reportExternalMemory;
  using Base::secret;

  double now() noexcept { return clock_.now(); }
  uint64_t id() const noexcept { return id_; }
  // Changes when the limiter adopts another secret. Fingerprints of an earlier version match no
  // peer.
  uint32_t secretVersion() const noexcept { return secretVersion_; }

  PeerSlot peerSlot() const noexcept { return slotBuffer_.read(); }

  // Writes the slot of the peer's record, which JavaScript keeps for the next check.
  template <class Record>
  void writeSlot(const Table<Record>& table, const Fingerprint& fingerprint) noexcept {
    Record* record = table.find(fingerprint);
    slotBuffer_.write(record == nullptr ? PeerSlot::of(fingerprint) : table.slotOf(record));
  }

 protected:
  using typename Base::Methods;
  using typename Base::RawFunctions;

  // The class with its methods and its raw functions.
  static Napi::Function define(Napi::Env env, const char* name, Registry<Self>& registry,
                               Methods methods, const RawFunctions& rawFunctions) {
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
    return Base::define(env, name, registry, methods, rawFunctions);
  }

  // The methods of limiters that support groups.
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
        Self::InstanceMethod("unban", &Self::unban),
        Self::InstanceMethod("bannedKeys", &Self::bannedKeys),
        Self::InstanceMethod("longestBans", &Self::longestBans),
    };
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
    const uint64_t count = core().offenders().table().violations(text.key(secret()).fingerprint);
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

  // unban(key, now)
  Napi::Value unban(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    const bool hadBan = core().unban(text.key(secret()).fingerprint, nowIn(info, 1));
    reportExternalMemory(info.Env());
    return Napi::Boolean::New(info.Env(), hadBan);
  }

  Napi::Value bannedKeys(const Napi::CallbackInfo& info) {
    return bannedKeysOf(info.Env(), core(), nowIn(info, 0));
  }

  // longestBans(limit, now)
  Napi::Value longestBans(const Napi::CallbackInfo& info) {
    const double limit = info[0].As<Napi::Number>().DoubleValue();
    return longestBansOf(info.Env(), core(), limit, nowIn(info, 1));
  }

  // openWalk(): a handle for walk, which returns a snapshot in steps.
  Napi::Value openWalk(const Napi::CallbackInfo& info) {
    return wrapHandle(info.Env(), new (std::nothrow) WalkHandle(id_));
  }

  // walk(handle, limit, now): the columns of the next step, of about `limit` peers.
  Napi::Value walk(const Napi::CallbackInfo& info) {
    auto* walk = unwrapHandle<WalkHandle>(info.Env(), info[0], id_);
    if (walk == nullptr) return info.Env().Undefined();
    const auto limit = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    return snapshotStepOf(info.Env(), core(), secret(), walk->steps, limit, nowIn(info, 2));
  }

  // restoreOffenders(keys, numbers, now): restores offenders from validated columns. Returns how
  // many were restored.
  Napi::Value restoreOffenders(const Napi::CallbackInfo& info) {
    const double now = nowIn(info, 2);
    // If not all can be kept, JavaScript passes the costliest first. If no peer can be evicted for
    // one of them, probably none can for the next, so fewer candidates are looked at.
    unsigned most = kMostLookedAt;
    const auto put = [&](const Key& key, const double* numbers) {
      const double left = numbers[1] == numbers[1] ? numbers[1] : 0;
      const SavedOffender saved{
          static_cast<uint64_t>(numbers[0]), left, numbers[2], {numbers[3], numbers[4]}};
      const Verdict verdict = core().restore(key, saved, now, most);
      if (verdict == Verdict::kNoRoom) most = kSample;
      return verdict;
    };
    const uint32_t count =
        restoreOffendersFrom<kOffenceNumbers>(info.Env(), core(), secret(), info[0], info[1], put);
    reportExternalMemory(info.Env());
    return Napi::Number::New(info.Env(), count);
  }

  // adopt(secret): replaces the secret of an empty limiter. It comes in 32-bit words.
  void adopt(const Napi::CallbackInfo& info) {
    const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
    const Secret other{joinHalves(words), joinHalves(words + 2)};
    if (!core().isEmpty() || other == secret()) return;
    Base::setSecret(other);
    ++secretVersion_;
  }

  // putDigests(secret, digests, numbers, now): restores peers that a snapshot names by digests.
  // `secret` and `digests` come in 32-bit words. Returns how many were restored.
  Napi::Value putDigests(const Napi::CallbackInfo& info) {
    const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
    const Secret other{joinHalves(words), joinHalves(words + 2)};
    const double now = nowIn(info, 3);
    const bool isOwn = other == secret();
    const uint32_t count = restoreDigestsFrom<kDigestNumbers>(
        info.Env(), info[1], info[2],
        [&](const Fingerprint& digest) { core().prepareDigest(other, digest); },
        [&](const Fingerprint& digest, const double* numbers) {
          const SavedDigest saved{digest, numbers[0], {numbers[1], numbers[2]}};
          return core().restoreDigest(other, isOwn, saved, now);
        });
    reportExternalMemory(info.Env());
    return Napi::Number::New(info.Env(), count);
  }

  // openGroup(): a handle for checkGroup, without members.
  Napi::Value openGroup(const Napi::CallbackInfo& info) {
    return wrapHandle(info.Env(), new (std::nothrow) GroupHandle(id_, secretVersion_));
  }

  // addMember(group, key): adds the member at the end.
  void addMember(const Napi::CallbackInfo& info) {
    auto* group = unwrapHandle<GroupHandle>(info.Env(), info[0], id_);
    KeyText text;
    if (group == nullptr || !text.read(info.Env(), info[1])) return;
    if (!group->add(text.key(secret()).fingerprint)) throwNoMemory(info.Env());
  }

  // removeMember(group, index): moves the last member to `index`.
  void removeMember(const Napi::CallbackInfo& info) {
    auto* group = unwrapHandle<GroupHandle>(info.Env(), info[0], id_);
    if (group != nullptr) group->removeAt(info[1].As<Napi::Number>().Uint32Value());
  }

  void clear(const Napi::CallbackInfo& info) {
    core().clear();
    reportExternalMemory(info.Env());
  }

 private:
  struct WalkHandle : Handle {
    static constexpr HandleKind kKind = HandleKind::kWalk;

    explicit WalkHandle(uint64_t limiterId) noexcept : Handle{kKind, limiterId} {}

    SnapshotWalk<Core> steps;
  };

  Clock clock_;
  const uint64_t id_;
  uint32_t secretVersion_ = 0;
  SlotBuffer slotBuffer_;
};

}  // namespace relay_limiter

// SharedObject: a limiter in a shared file as a JavaScript object. It has the calls of the limiter
// in lib/engine/engine.ts and those of SharedCore there.
#pragma once

#include <napi.h>

#include <cmath>
#include <memory>
#include <new>
#include <utility>

#include "../limiters/clock.h"
#include "../shared/checks.h"
#include "core-object.h"
#include "group.h"
#include "report.h"
#include "shared-report.h"
#include "slot-buffer.h"

namespace relay_limiter {

// What CoreObject needs of a limiter: its end leaves the file.
template <template <class> class Limiter>
struct SharedCoreOf {
  explicit SharedCoreOf(const typename SharedLimiter<Limiter>::Config& config) noexcept
      : limiter(config) {}

  void clear() noexcept { limiter.detach(); }
  static size_t memoryBytes() noexcept { return 0; }

  SharedLimiter<Limiter> limiter;
};

template <class Self, template <class> class LimiterOf>
class SharedObject : public CoreObject<Self, SharedCoreOf<LimiterOf>> {
  using Base = CoreObject<Self, SharedCoreOf<LimiterOf>>;

 public:
  using Limiter = SharedLimiter<LimiterOf>;
  using Core = typename Limiter::Core;

  // `new Class(config, secret, slotBuffer, path)`: joins the file at `path`, or creates it.
  // `secret` is that of a file that is created.
  SharedObject(const Napi::CallbackInfo& info, const typename Core::Config& config)
      : Base(info, info[1], config), id_(newId()) {
    slotBuffer_.open(info.Env(), info[2]);
    if (info.Env().IsExceptionPending()) return;
    const Utf8Text path(info[3]);
    SharedError error;
    if (limiter().attach(path.text(), Base::secret(), error)) return;
    throwShared(info.Env(), error);
  }

  Limiter& limiter() noexcept { return Base::core().limiter; }
  // That of the file. If it has changed, a call hashes its key again.
  const Secret& secret() noexcept { return limiter().secret(); }
  uint32_t secretVersion() noexcept { return limiter().secretVersion(); }
  double now() noexcept { return clock_.now(); }
  uint64_t id() const noexcept { return id_; }
  SlotBuffer& slotBuffer() noexcept { return slotBuffer_; }

  // Whether the limiter has not left the file; if it has, throws.
  bool requireAttached(napi_env env) noexcept {
    if (limiter().region().isAttached()) return true;
    napi_throw_error(env, "ERR_LIMITER_SHARED", "the limiter has left its shared file");
    return false;
  }

  void throwStalled(napi_env env) noexcept {
    throwLocked(env, limiter().region(), limiter().stalledBy());
  }

  // The answer of a check, when no shard is locked.
  template <class Check>
  napi_value answer(napi_env env, Verdict verdict, const Check& check) noexcept {
    Base::callArguments().delay = delayFor(verdict, check);
    return answerOf(env, verdict);
  }

 protected:
  using typename Base::Methods;
  using typename Base::RawFunctions;

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
                       Self::InstanceMethod("sharedState", &Self::sharedState),
                       Self::InstanceMethod("detach", &Self::detach),
                   });
    return Base::define(env, name, registry, methods, rawFunctions);
  }

  static Methods groupMethods() {
    return {
        Self::InstanceMethod("openGroup", &Self::openGroup),
        Self::InstanceMethod("addMember", &Self::addMember),
        Self::InstanceMethod("removeMember", &Self::removeMember),
    };
  }

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

  // Calls use(core, key, now) in the shard of the key that is the first argument. False if an
  // exception is pending.
  template <class Use>
  bool withPeer(const Napi::CallbackInfo& info, double now, Use&& use) {
    KeyText text;
    if (!requireAttached(info.Env()) || !text.read(info.Env(), info[0])) return false;
    if (limiter().withPeer(text.key(secret()), now, use)) return true;
    throwStalled(info.Env());
    return false;
  }

 public:
  void removePeer(const Napi::CallbackInfo& info) {
    withPeer(info, 0, [](Core& core, const Key& key, double) { core.removePeer(key); });
  }

  Napi::Value violations(const Napi::CallbackInfo& info) {
    uint64_t count = 0;
    withPeer(info, 0, [&](Core& core, const Key& key, double) {
      count = core.offenders().table().violations(key.fingerprint);
    });
    return Napi::Number::New(info.Env(), static_cast<double>(count));
  }

  Napi::Value cleanup(const Napi::CallbackInfo& info) {
    if (!requireAttached(info.Env())) return info.Env().Undefined();
    const double age = info[0].As<Napi::Number>().DoubleValue();
    const double budgetMs = info[1].As<Napi::Number>().DoubleValue();
    const uint64_t removed = limiter().cleanup(age, budgetMs, nowIn(info, 2));
    return Napi::Number::New(info.Env(), static_cast<double>(removed));
  }

  Napi::Value isCleaning(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), limiter().isCleaning());
  }

  Napi::Value statistics(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!requireAttached(env)) return env.Undefined();
    SharedStatistics numbers;
    if (!limiter().readStatistics(numbers)) {
      throwStalled(env);
      return env.Undefined();
    }
    Napi::Object result = Napi::Object::New(env);
    result.Set("tracked", static_cast<double>(numbers.tracked));
    result.Set("peers", static_cast<double>(numbers.peers));
    result.Set("totalViolations", static_cast<double>(numbers.violations.value()));
    result.Set("topViolators", topViolatorsOf(env, numbers.top));
    result.Set("unnamedOffenders", static_cast<double>(numbers.unnamed));
    result.Set("memoryBytes", static_cast<double>(limiter().layout().namesAt()));
    setCounters(env, result, numbers.counters);
    return result;
  }

  // unban(key, now)
  Napi::Value unban(const Napi::CallbackInfo& info) {
    bool hadBan = false;
    withPeer(info, nowIn(info, 1), [&](Core& core, const Key& key, double time) {
      hadBan = core.unban(key.fingerprint, time);
    });
    return Napi::Boolean::New(info.Env(), hadBan);
  }

  Napi::Value bannedKeys(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    BanList bans;
    size_t count = 0;
    if (!readBans(info, nowIn(info, 0), bans, count)) return env.Undefined();
    bans.sortByBeginning();
    KeyList keys(env);
    for (size_t i = 0; i < bans.size(); ++i) keys.push(bans[i].key.key());
    return keys.array;
  }

  // longestBans(limit, now)
  Napi::Value longestBans(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const double limit = info[0].As<Napi::Number>().DoubleValue();
    BanList list;
    size_t count = 0;
    if (!readBans(info, nowIn(info, 1), list, count)) return env.Undefined();
    list.keepLongest(limit < static_cast<double>(list.size()) ? static_cast<size_t>(limit)
                                                              : list.size());
    return bansInForceOf(env, list, count);
  }

  // openWalk(): a handle for walk, which returns a snapshot in steps.
  Napi::Value openWalk(const Napi::CallbackInfo& info) {
    return wrapHandle(info.Env(), new (std::nothrow) WalkHandle(id_));
  }

  // walk(handle, limit, now): the columns of the next step, of about `limit` peers.
  Napi::Value walk(const Napi::CallbackInfo& info) {
    auto* walk = unwrapHandle<WalkHandle>(info.Env(), info[0], id_);
    if (walk == nullptr || !requireAttached(info.Env())) return info.Env().Undefined();
    const auto limit = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    const Napi::Value step = snapshotStepOf(info.Env(), limiter(), limiter().currentSecret(),
                                            walk->steps, limit, nowIn(info, 2));
    if (!limiter().takeStalled()) return step;
    throwStalled(info.Env());
    return info.Env().Undefined();
  }

  // restoreOffenders(keys, numbers, now): restores offenders from validated columns. Returns how
  // many were restored.
  Napi::Value restoreOffenders(const Napi::CallbackInfo& info) {
    if (!requireAttached(info.Env())) return info.Env().Undefined();
    const double now = nowIn(info, 2);
    bool isStalled = false;
    const auto put = [&](const Key& key, const double* numbers) {
      const double left = numbers[1] == numbers[1] ? numbers[1] : 0;
      const SavedOffender saved{
          static_cast<uint64_t>(numbers[0]), left, numbers[2], {numbers[3], numbers[4]}};
      const Verdict verdict = limiter().restore(key, saved, now, kMostLookedAt);
      isStalled = isStalled || verdict == Verdict::kStalled;
      return verdict;
    };
    const uint32_t count = restoreOffendersFrom<kOffenceNumbers>(info.Env(), limiter(), secret(),
                                                                 info[0], info[1], put);
    return restoredOf(info.Env(), count, isStalled);
  }

  // adopt(secret): replaces the secret of a file without peers. It comes in 32-bit words.
  void adopt(const Napi::CallbackInfo& info) {
    if (!requireAttached(info.Env())) return;
    const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
    const Secret other{joinHalves(words), joinHalves(words + 2)};
    if (!limiter().adopt(other)) throwStalled(info.Env());
  }

  // putDigests(secret, digests, numbers, now): restores peers that a snapshot names by digests
  // under the secret of this file. `secret` and `digests` come in 32-bit words. Returns how many
  // were restored.
  Napi::Value putDigests(const Napi::CallbackInfo& info) {
    if (!requireAttached(info.Env())) return info.Env().Undefined();
    const uint32_t* words = info[0].As<Napi::Uint32Array>().Data();
    const Secret other{joinHalves(words), joinHalves(words + 2)};
    const double now = nowIn(info, 3);
    bool isStalled = false;
    uint32_t count = 0;
    if (other == limiter().currentSecret()) {
      count = restoreDigestsFrom<kDigestNumbers>(
          info.Env(), info[1], info[2],
          [&](const Fingerprint& digest) { limiter().prepare(digest); },
          [&](const Fingerprint& digest, const double* numbers) {
            const SavedDigest saved{digest, numbers[0], {numbers[1], numbers[2]}};
            const Verdict verdict = limiter().restorePeer(saved, now);
            isStalled = isStalled || verdict == Verdict::kStalled;
            return verdict;
          });
    }
    return restoredOf(info.Env(), count, isStalled);
  }

  void clear(const Napi::CallbackInfo& info) {
    if (requireAttached(info.Env()) && !limiter().clear()) throwStalled(info.Env());
  }

  Napi::Value sharedState(const Napi::CallbackInfo& info) {
    if (!requireAttached(info.Env())) return info.Env().Undefined();
    return sharedStateOf(info.Env(), limiter().region());
  }

  void detach(const Napi::CallbackInfo&) { limiter().detach(); }

  // openGroup(): a handle for checkGroup, without members.
  Napi::Value openGroup(const Napi::CallbackInfo& info) {
    return wrapHandle(info.Env(), new (std::nothrow) GroupHandle(id_, secretVersion()));
  }

  // addMember(group, key): adds the member at the end.
  void addMember(const Napi::CallbackInfo& info) {
    auto* group = unwrapHandle<GroupHandle>(info.Env(), info[0], id_);
    KeyText text;
    if (group == nullptr || !requireAttached(info.Env()) || !text.read(info.Env(), info[1])) return;
    if (!group->add(text.key(secret()).fingerprint)) throwNoMemory(info.Env());
  }

  // removeMember(group, index): moves the last member to `index`.
  void removeMember(const Napi::CallbackInfo& info) {
    auto* group = unwrapHandle<GroupHandle>(info.Env(), info[0], id_);
    if (group != nullptr) group->removeAt(info[1].As<Napi::Number>().Uint32Value());
  }

 private:
  struct WalkHandle : Handle {
    static constexpr HandleKind kKind = HandleKind::kWalk;

    explicit WalkHandle(uint64_t limiterId) noexcept : Handle{kKind, limiterId} {}

    SnapshotWalk<Limiter> steps;
  };

  template <class L>
  static double delayFor(Verdict verdict, const SharedBucketCheck<L>& check) noexcept {
    if (verdict == Verdict::kStalled) return kStalledDelay;
    return verdict == Verdict::kRefused ? check.delay : kDisconnectDelay;
  }
  template <class L, auto kCheck>
  static double delayFor(Verdict, const SharedTimeCheck<L, kCheck>&) noexcept {
    return kDisconnectDelay;
  }

  bool readBans(const Napi::CallbackInfo& info, double now, BanList& bans, size_t& count) {
    if (!requireAttached(info.Env())) return false;
    bool hasMemory = true;
    if (limiter().readBans(bans, count, now, hasMemory)) return true;
    if (hasMemory) {
      throwStalled(info.Env());
    } else {
      throwNoMemory(info.Env());
    }
    return false;
  }

  Napi::Value restoredOf(Napi::Env env, uint32_t count, bool isStalled) {
    if (isStalled && !env.IsExceptionPending()) throwStalled(env);
    return Napi::Number::New(env, count);
  }

  Clock clock_;
  const uint64_t id_;
  SlotBuffer slotBuffer_;
};

}  // namespace relay_limiter

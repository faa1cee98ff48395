// LimiterObject: a limiter as a JavaScript object. What is called rarely is a method of the class;
// each hot call is a raw function of its own, which saves what it costs to find the object from
// `this`: 74 ns, where a whole check takes about 100.
#pragma once

#include <napi.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "../clock.h"
#include "../offenders.h"
#include "arguments.h"
#include "handles.h"

namespace relay_limiter {

// What lib/engine/engine.ts calls the verdicts.
constexpr uint32_t kRefusedAnswer = 1;
constexpr uint32_t kBanBeginsAnswer = 2;
constexpr double kDisconnectAnswer = -1;
constexpr uint8_t kVerdictAllow = 0;
constexpr uint8_t kVerdictDelay = 1;
constexpr uint8_t kVerdictDisconnect = 2;

template <class Self, class Core>
class LimiterObject : public Napi::ObjectWrap<Self> {
 public:
  // `new Class(config, secret)`: secret is a BigUint64Array of two random words.
  LimiterObject(const Napi::CallbackInfo& info, const typename Core::Config& config)
      : Napi::ObjectWrap<Self>(info), core_(config), secret_(secretOf(info)) {}

  ~LimiterObject() {
    core_.clear();
    account(this->Env());
  }

  Core& core() noexcept { return core_; }
  const Secret& secret() const noexcept { return secret_; }
  double now() noexcept { return clock_.now(); }

  // Tells V8 how much the tables hold, or it would not know what collecting a limiter gains. To be
  // called after whatever may have changed that; small changes wait.
  void account(napi_env env) noexcept {
    const auto bytes = static_cast<int64_t>(core_.memoryBytes());
    const int64_t change = bytes - accounted_;
    if (change < kAccountingStep && change > -kAccountingStep && bytes != 0) return;
    int64_t total;
    if (change != 0 && napi_adjust_external_memory(env, change, &total) == napi_ok) {
      accounted_ = bytes;
    }
  }

 protected:
  static Napi::Function define(Napi::Env env, const char* name,
                               std::vector<Napi::ClassPropertyDescriptor<Self>> own) {
    own.insert(own.end(), {
                              Self::InstanceMethod("removePeer", &Self::removePeer),
                              Self::InstanceMethod("violations", &Self::violations),
                              Self::InstanceMethod("cleanup", &Self::cleanup),
                              Self::InstanceMethod("statistics", &Self::statistics),
                              Self::InstanceMethod("clear", &Self::clear),
                          });
    return Self::DefineClass(env, name, own);
  }

  // The methods of limiters whose peers can be opened, and put in groups.
  static std::vector<Napi::ClassPropertyDescriptor<Self>> handleMethods() {
    return {
        Self::InstanceMethod("openPeer", &Self::openPeer),
        Self::InstanceMethod("openGroup", &Self::openGroup),
        Self::InstanceMethod("addMember", &Self::addMember),
        Self::InstanceMethod("removeMember", &Self::removeMember),
    };
  }

  // Gives this object a raw function. The two hold each other, so neither outlives the data.
  void addHotCall(const Napi::CallbackInfo& info, const char* name, napi_callback call) {
    const Napi::Env env = info.Env();
    napi_value function;
    if (env.IsExceptionPending()) return;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, call, static_cast<Self*>(this),
                             &function) != napi_ok) {
      return;
    }
    Napi::Object object = info.This().As<Napi::Object>();
    Napi::Function(env, function)
        .DefineProperty(Napi::PropertyDescriptor::Value("limiter", object, napi_default));
    object.DefineProperty(
        Napi::PropertyDescriptor::Value(name, Napi::Function(env, function), napi_default));
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
    if (text.read(info.Env(), info[0])) core_.removePeer(text.key(secret_).fingerprint);
    account(info.Env());
  }

  Napi::Value violations(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    const uint64_t count = core_.offenders().violations(text.key(secret_).fingerprint);
    return Napi::Number::New(info.Env(), static_cast<double>(count));
  }

  Napi::Value cleanup(const Napi::CallbackInfo& info) {
    const double age = info[0].As<Napi::Number>().DoubleValue();
    const double budgetMs = info[1].As<Napi::Number>().DoubleValue();
    const uint64_t removed = core_.cleanup(age, budgetMs, nowIn(info, 2));
    account(info.Env());
    return Napi::Number::New(info.Env(), static_cast<double>(removed));
  }

  Napi::Value statistics(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Offenders& offenders = core_.offenders();
    Napi::Object result = Napi::Object::New(env);
    result.Set("tracked", static_cast<double>(core_.tracked()));
    result.Set("totalViolations", static_cast<double>(offenders.totalViolations()));
    result.Set("topViolators", topViolators(env, offenders));
    Napi::Array banned = Napi::Array::New(env);
    uint32_t count = 0;
    const auto name = [&](const char16_t* text, size_t length) {
      banned.Set(count++, stringOf(env, text, length));
    };
    if (!offenders.bannedKeys(nowIn(info, 0), core_.banDuration(), name)) throwNoMemory(env);
    result.Set("banned", banned);
    result.Set("memoryBytes", static_cast<double>(core_.memoryBytes()));
    return result;
  }

  // A handle for checkPeer.
  Napi::Value openPeer(const Napi::CallbackInfo& info) {
    KeyText text;
    if (!text.read(info.Env(), info[0])) return info.Env().Undefined();
    const Fingerprint print = text.key(secret_).fingerprint;
    return opened(info, new (std::nothrow) OpenedPeer(static_cast<Self*>(this), print));
  }

  // A handle for checkGroup, without members.
  Napi::Value openGroup(const Napi::CallbackInfo& info) {
    return opened(info, new (std::nothrow) OpenedGroup(static_cast<Self*>(this)));
  }

  // addMember(group, key): at the end.
  void addMember(const Napi::CallbackInfo& info) {
    auto* group = handleIn<OpenedGroup>(info.Env(), info[0], static_cast<Self*>(this));
    KeyText text;
    if (group == nullptr || !text.read(info.Env(), info[1])) return;
    if (!group->add(text.key(secret_).fingerprint)) throwNoMemory(info.Env());
  }

  // removeMember(group, index): the last member takes its place.
  void removeMember(const Napi::CallbackInfo& info) {
    auto* group = handleIn<OpenedGroup>(info.Env(), info[0], static_cast<Self*>(this));
    if (group != nullptr) group->removeAt(info[1].As<Napi::Number>().Uint32Value());
  }

  void clear(const Napi::CallbackInfo& info) {
    core_.clear();
    account(info.Env());
  }

 private:
  template <class Opened>
  static Napi::Value opened(const Napi::CallbackInfo& info, Opened* handle) {
    const napi_value value = wrapHandle(info.Env(), handle);
    return value == nullptr ? info.Env().Undefined() : Napi::Value(info.Env(), value);
  }

  static Secret secretOf(const Napi::CallbackInfo& info) {
    if (info[1].IsTypedArray()) {
      const auto array = info[1].As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_biguint64_array && array.ElementLength() == 2) {
        const auto words = info[1].As<Napi::BigUint64Array>();
        return {words[0], words[1]};
      }
    }
    Napi::TypeError::New(info.Env(), "a secret is two 64-bit words").ThrowAsJavaScriptException();
    return {0, 0};
  }

  // As a plain value: Set() would take a Napi::String through UTF-8, which has no lone surrogates.
  static napi_value stringOf(Napi::Env env, const char16_t* text, size_t length) {
    return Napi::String::New(env, text, length);
  }

  static Napi::Array topViolators(Napi::Env env, Offenders& offenders) {
    const Offender* top[Offenders::kTop];
    const size_t count = offenders.topViolators(top);
    Napi::Array result = Napi::Array::New(env, count);
    for (size_t i = 0; i < count; ++i) {
      Napi::Array pair = Napi::Array::New(env, 2);
      pair.Set(0u, stringOf(env, top[i]->name, top[i]->nameLength));
      pair.Set(1u, static_cast<double>(top[i]->violations));
      result.Set(static_cast<uint32_t>(i), pair);
    }
    return result;
  }

  static constexpr int64_t kAccountingStep = 256 * 1024;

  Core core_;
  Clock clock_;
  const Secret secret_;
  int64_t accounted_ = 0;
};

// Answers a check that can refuse or ban; nullptr is undefined: allowed.
inline napi_value answerOf(napi_env env, Verdict verdict) noexcept {
  napi_value result = nullptr;
  if (verdict == Verdict::kAllowed) return result;
  if (verdict == Verdict::kNoMemory) {
    throwNoMemory(env);
    return result;
  }
  napi_create_uint32(env, verdict == Verdict::kBanBegins ? kBanBeginsAnswer : kRefusedAnswer,
                     &result);
  return result;
}

// A check by key alone: check(key, now) of a limiter that can ban.
template <class Self, auto kCheck>
napi_value checkKey(napi_env env, napi_callback_info info) noexcept {
  const Arguments<Self, 2> arguments(env, info);
  Self& self = *arguments.data;
  KeyText text;
  if (!text.read(env, arguments.values[0])) return nullptr;
  const Verdict verdict = (self.core().*kCheck)(text.key(self.secret()), arguments.now(env, 1));
  self.account(env);
  return answerOf(env, verdict);
}

// Whether the short way is open and allows: then the check is done. `find` returns the bucket, or
// nullptr.
template <class Core, class Find>
bool allowsShort(const Core& core, Find&& find, double cost, double now) noexcept {
  if (!core.isShort()) return false;
  Bucket* bucket = find();
  return bucket != nullptr && core.shortWay(cost, now)(*bucket);
}

// What a check does that its short way did not decide.
template <class Self>
RELAY_LIMITER_APART napi_value decide(napi_env env, Self& self, const Key& key, double cost,
                                      double now) noexcept {
  double delay = 0;
  const Verdict verdict = self.checkBucket(key, cost, now, delay);
  self.account(env);
  return Self::answer(env, verdict, delay);
}

// A check of a bucket: check(key, cost, now).
template <class Self>
napi_value checkCost(napi_env env, napi_callback_info info) noexcept {
  const Arguments<Self, 3> arguments(env, info);
  Self& self = *arguments.data;
  KeyText text;
  if (!text.read(env, arguments.values[0])) return nullptr;
  const double cost = arguments.number(env, 1, 1);
  const double now = arguments.now(env, 2);
  const Key key = text.key(self.secret());
  const auto find = [&] { return self.core().buckets().find(key.fingerprint); };
  if (allowsShort(self.core(), find, cost, now)) return nullptr;
  return decide(env, self, key, cost, now);
}

// The check of a peer whose place is remembered. Only to name a new offender is its key read, by
// readKey(text); kNeedsName, an exception pending, where that fails.
template <class Self, class ReadKey>
Verdict checkPlace(Self& self, const Fingerprint& print, Place<Bucket>& place, double cost,
                   double now, double& delay, ReadKey&& readKey) noexcept {
  const Verdict verdict = self.checkBucket({print, nullptr, 0}, place, cost, now, delay);
  if (verdict != Verdict::kNeedsName) return verdict;
  KeyText text;
  return readKey(text) ? self.checkBucket(text.named(print), place, cost, now, delay) : verdict;
}

// The same of an opened peer.
template <class Self>
RELAY_LIMITER_APART napi_value decide(napi_env env, Self& self, OpenedPeer& peer, napi_value key,
                                      double cost, double now) noexcept {
  double delay = 0;
  const auto readKey = [&](KeyText& text) { return text.read(env, key); };
  const Verdict verdict = checkPlace(self, peer.fingerprint, peer.place, cost, now, delay, readKey);
  if (verdict == Verdict::kNeedsName) return nullptr;
  self.account(env);
  return Self::answer(env, verdict, delay);
}

// checkPeer(handle, key, cost, now): the check of an opened peer.
template <class Self>
napi_value checkPeer(napi_env env, napi_callback_info info) noexcept {
  const Arguments<Self, 4> arguments(env, info);
  Self& self = *arguments.data;
  auto* peer = handleIn<OpenedPeer>(env, arguments.values[0], &self);
  if (peer == nullptr) return nullptr;
  const double cost = arguments.number(env, 2, 1);
  const double now = arguments.now(env, 3);
  const auto recall = [&] { return self.core().buckets().recall(peer->place, peer->fingerprint); };
  if (allowsShort(self.core(), recall, cost, now)) return nullptr;
  return decide(env, self, *peer, arguments.values[1], cost, now);
}

// The text of the key at `index`.
inline bool readElement(napi_env env, napi_value keys, uint32_t index, KeyText& text) noexcept {
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  napi_value element = nullptr;
  const bool read =
      napi_get_element(env, keys, index, &element) == napi_ok && text.read(env, element);
  napi_close_handle_scope(env, scope);
  return read;
}

// Answers members from `first` on whose buckets lie where they were found and have the cost, which
// most of them do; returns the first that needs more.
template <class Core>
uint32_t allowMembers(const Core& core, const OpenedGroup& group, uint32_t first, uint8_t* verdicts,
                      double cost, double now) noexcept {
  const auto allows = core.shortWay(cost, now);
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

template <class Self>
void checkMembers(napi_env env, Self& self, OpenedGroup& group, napi_value keys, uint8_t* verdicts,
                  double cost, double now) noexcept {
  const Buckets& buckets = self.core().buckets();
  group.follow(buckets);
  for (uint32_t i = 0; i < group.size() && i < kAhead; ++i) prefetch(group[i].record);
  for (uint32_t i = 0; i < group.size(); ++i) {
    // If records move before the last member is checked, the rest are looked up one by one.
    if (self.core().isShort() && group.epoch() == buckets.epoch()) {
      i = allowMembers(self.core(), group, i, verdicts, cost, now);
      if (i == group.size()) return;
    }
    OpenedGroup::Member& member = group[i];
    if (i + kAhead < group.size()) prefetch(group[i + kAhead].record);
    Place<Bucket> place{member.record, group.epoch()};
    double delay;
    const auto readKey = [&](KeyText& text) { return readElement(env, keys, i, text); };
    const Verdict verdict = checkPlace(self, member.fingerprint, place, cost, now, delay, readKey);
    member.record = place.record;
    if (verdict == Verdict::kNoMemory) return throwNoMemory(env);
    if (verdict == Verdict::kNeedsName) return;
    verdicts[i] = verdict == Verdict::kAllowed   ? kVerdictAllow
                  : verdict == Verdict::kRefused ? kVerdictDelay
                                                 : kVerdictDisconnect;
  }
}

// checkGroup(handle, keys, verdicts, cost, now): a verdict for each member, all at one instant.
template <class Self>
napi_value checkGroup(napi_env env, napi_callback_info info) noexcept {
  const Arguments<Self, 5> arguments(env, info);
  Self& self = *arguments.data;
  auto* group = handleIn<OpenedGroup>(env, arguments.values[0], &self);
  if (group == nullptr) return nullptr;
  void* bytes = nullptr;
  size_t capacity = 0;
  if (napi_get_typedarray_info(env, arguments.values[2], nullptr, &capacity, &bytes, nullptr,
                               nullptr) != napi_ok ||
      capacity < group->size()) {
    napi_throw_range_error(env, "ERR_LIMITER_OPTION", "verdicts must have a byte for each member");
    return nullptr;
  }
  const double cost = arguments.number(env, 3, 1);
  const double now = arguments.now(env, 4);
  checkMembers(env, self, *group, arguments.values[1], static_cast<uint8_t*>(bytes), cost, now);
  self.account(env);
  return nullptr;
}

}  // namespace relay_limiter

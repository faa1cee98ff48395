// LimiterObject: a limiter as a JavaScript object. What is called rarely is a method of the class;
// each hot call is a raw function that is told the object's number, which saves what it costs to
// find an object from `this`: 74 ns, which is more than a whole check takes.
#pragma once

#include <napi.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

#include "../clock.h"
#include "arguments.h"
#include "group.h"
#include "registry.h"
#include "report.h"

namespace relay_limiter {

template <class Self, class Core>
class LimiterObject : public Napi::ObjectWrap<Self> {
 public:
  // Where there is no memory the spare room is given: this is told of no environment to throw in,
  // the constructor is.
  static void* operator new(size_t bytes) noexcept {
    void* memory = std::malloc(bytes);
    return memory == nullptr ? takeSpare() : memory;
  }
  static void operator delete(void* memory) noexcept {
    if (memory == spare().room) return spare().taken.clear(std::memory_order_release);
    std::free(memory);
  }

  // `new Class(config, secret, seat)`: secret is a BigUint64Array of two random words, seat the
  // Int32Array in which JavaScript says where an opened peer was found, and we where it is now.
  LimiterObject(const Napi::CallbackInfo& info, const typename Core::Config& config)
      : Napi::ObjectWrap<Self>(info),
        core_(config),
        secret_(secretOf(info)),
        registry_(*static_cast<Registry<Self>*>(info.Data())),
        number_(registry_.add(static_cast<Self*>(this))),
        id_(newId()) {
    if (static_cast<void*>(static_cast<Self*>(this)) == spare().room) throwNoMemory(info.Env());
    openSeat(info);
    setNumber(info);
  }

  ~LimiterObject() {
    registry_.remove(number_);
    core_.clear();
    account(this->Env());
  }

  Core& core() noexcept { return core_; }
  const Secret& secret() const noexcept { return secret_; }
  double now() noexcept { return clock_.now(); }
  uint64_t id() const noexcept { return id_; }

  Seat seat() const noexcept { return {seat_[0], seat_[1], seat_[2]}; }

  // Where the peer's record lies, for JavaScript to remember.
  template <class Record>
  void setSeat(const Table<Record>& table, const Fingerprint& print) noexcept {
    Record* record = table.find(print);
    const Seat seat = record == nullptr ? Seat::of(print) : table.seatOf(record);
    seat_[0] = seat.place;
    seat_[1] = seat.low;
    seat_[2] = seat.high;
  }

  // Tells V8 how much the tables hold, or it would not know what collecting a limiter gains. To be
  // called after whatever may have changed that; small changes wait. It is not told of more than
  // kMostAccounted: a large table that grows is in use, and being told of all of it would make V8
  // collect garbage again and again, in steps of 5 to 10 ms.
  void account(napi_env env) noexcept {
    const auto bytes = std::min(static_cast<int64_t>(core_.memoryBytes()), kMostAccounted);
    const int64_t change = bytes - accounted_;
    const int64_t least = std::max(kLeastAccounted, accounted_ / 8);
    if (change < least && change > -least && bytes != 0) return;
    int64_t total;
    if (change != 0 && napi_adjust_external_memory(env, change, &total) == napi_ok) {
      accounted_ = bytes;
    }
  }

 protected:
  using Methods = std::vector<Napi::ClassPropertyDescriptor<Self>>;
  using Calls = std::vector<std::pair<const char*, napi_callback>>;

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
                       Self::InstanceMethod("offenders", &Self::offenders),
                       Self::InstanceMethod("restoreOffenders", &Self::restoreOffenders),
                       Self::InstanceMethod("clear", &Self::clear),
                   });
    const Napi::Function constructor = Self::DefineClass(env, name, methods, &registry);
    // The thread is being ended.
    if (constructor.IsEmpty()) return constructor;
    for (const auto& [call, callback] : calls) {
      napi_value function;
      if (napi_create_function(env, call, NAPI_AUTO_LENGTH, callback, &registry, &function) ==
          napi_ok) {
        constructor.Set(call, function);
      }
    }
    return constructor;
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

  Napi::Value isCleaning(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), core_.isCleaning());
  }

  Napi::Value statistics(const Napi::CallbackInfo& info) { return statisticsOf(info.Env(), core_); }

  Napi::Value bannedKeys(const Napi::CallbackInfo& info) {
    return bannedKeysOf(info.Env(), core_, nowIn(info, 0));
  }

  // longestBans(most, now)
  Napi::Value longestBans(const Napi::CallbackInfo& info) {
    const double most = info[0].As<Napi::Number>().DoubleValue();
    return longestBansOf(info.Env(), core_, most, nowIn(info, 1));
  }

  // offenders(now): the columns of a snapshot.
  Napi::Value offenders(const Napi::CallbackInfo& info) {
    return offendersOf(info.Env(), core_, nowIn(info, 0));
  }

  // restoreOffenders(keys, numbers, now): such columns, validated; how many were put back.
  Napi::Value restoreOffenders(const Napi::CallbackInfo& info) {
    const double now = nowIn(info, 2);
    const auto put = [&](const KeyText& text, const Offence& offence) {
      return core_.restore(text.key(secret_), offence, now);
    };
    const uint32_t count = restoreFrom(info.Env(), info[0], info[1], put);
    account(info.Env());
    return Napi::Number::New(info.Env(), count);
  }

  // A handle for checkGroup, without members.
  Napi::Value openGroup(const Napi::CallbackInfo& info) {
    const napi_value value = wrapGroup(info.Env(), new (std::nothrow) OpenedGroup(id_));
    return value == nullptr ? info.Env().Undefined() : Napi::Value(info.Env(), value);
  }

  // addMember(group, key): at the end.
  void addMember(const Napi::CallbackInfo& info) {
    auto* group = groupIn(info.Env(), info[0], id_);
    KeyText text;
    if (group == nullptr || !text.read(info.Env(), info[1])) return;
    if (!group->add(text.key(secret_).fingerprint)) throwNoMemory(info.Env());
  }

  // removeMember(group, index): the last member takes its place.
  void removeMember(const Napi::CallbackInfo& info) {
    auto* group = groupIn(info.Env(), info[0], id_);
    if (group != nullptr) group->removeAt(info[1].As<Napi::Number>().Uint32Value());
  }

  void clear(const Napi::CallbackInfo& info) {
    core_.clear();
    account(info.Env());
  }

 private:
  // Of all threads, for a limiter that is constructed only to be refused, and deleted at once.
  struct Spare {
    std::atomic_flag taken = ATOMIC_FLAG_INIT;
    alignas(std::max_align_t) unsigned char room[sizeof(Self)] = {};
  };

  static Spare& spare() noexcept {
    static Spare spare;
    return spare;
  }

  static void* takeSpare() noexcept {
    while (spare().taken.test_and_set(std::memory_order_acquire)) continue;
    return spare().room;
  }

  static Secret secretOf(const Napi::CallbackInfo& info) {
    if (info[1].IsTypedArray()) {
      const auto array = info[1].As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_biguint64_array && array.ElementLength() == 2) {
        const uint64_t* words = info[1].As<Napi::BigUint64Array>().Data();
        return {words[0], words[1]};
      }
    }
    Napi::TypeError::New(info.Env(), "a secret is two 64-bit words").ThrowAsJavaScriptException();
    return {0, 0};
  }

  void setNumber(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (number_ == Registry<Self>::kNone) throwNoMemory(env);
    if (env.IsExceptionPending()) return;
    info.This().As<Napi::Object>().DefineProperty(
        Napi::PropertyDescriptor::Value("number", Napi::Number::New(env, number_), napi_default));
  }

  void openSeat(const Napi::CallbackInfo& info) {
    if (info.Env().IsExceptionPending()) return;
    if (info[2].IsTypedArray()) {
      const auto array = info[2].As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_int32_array && array.ElementLength() == 3) {
        seatWords_ = Napi::Persistent(info[2].As<Napi::Object>());
        seat_ = info[2].As<Napi::Int32Array>().Data();
        return;
      }
    }
    Napi::TypeError::New(info.Env(), "a seat is three 32-bit words").ThrowAsJavaScriptException();
  }

  static constexpr int64_t kLeastAccounted = 16 << 10;
  static constexpr int64_t kMostAccounted = 32 << 20;

  Core core_;
  Clock clock_;
  const Secret secret_;
  Registry<Self>& registry_;
  const int32_t number_;
  const uint64_t id_;
  // Keeps the words of seat_ in memory.
  Napi::ObjectReference seatWords_;
  int32_t* seat_ = nullptr;
  int64_t accounted_ = 0;
};

}  // namespace relay_limiter

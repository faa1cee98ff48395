// CoreObject: a limiter, or a table of leases, as a JavaScript object. What is called rarely is a
// method of the class; each hot call is a raw function that is told the object's number, which
// saves what it costs to find an object from `this`: 74 ns, which is more than a whole check takes.
#pragma once

#include <napi.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

#include "../table/fingerprint.h"
#include "arguments.h"
#include "registry.h"

namespace relay_limiter {

template <class Self, class Core>
class CoreObject : public Napi::ObjectWrap<Self> {
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

  // `secret` is a BigUint64Array of two random words.
  template <class... Config>
  CoreObject(const Napi::CallbackInfo& info, const Napi::Value& secret, const Config&... config)
      : Napi::ObjectWrap<Self>(info),
        core_(config...),
        secret_(secretOf(secret)),
        registry_(*static_cast<Registry<Self>*>(info.Data())),
        number_(registry_.add(static_cast<Self*>(this))) {
    if (static_cast<void*>(static_cast<Self*>(this)) == spare().room) throwNoMemory(info.Env());
    setNumber(info);
  }

  ~CoreObject() {
    registry_.remove(number_);
    core_.clear();
    reportExternalMemory(this->Env());
  }

  Core& core() noexcept { return core_; }
  const Secret& secret() const noexcept { return secret_; }
  // Only while nothing is known under the old one.
  void adopt(const Secret& secret) noexcept { secret_ = secret; }

  // Tells V8 how much the tables hold, or it would not know what collecting an object gains. To be
  // called after whatever may have changed that; small changes wait. It is not told of more than
  // kMostAccounted: a large table that grows is in use, and being told of all of it would make V8
  // collect garbage again and again, in steps of 5 to 10 ms.
  void reportExternalMemory(napi_env env) noexcept {
    const auto bytes = std::min(static_cast<int64_t>(core_.memoryBytes()), kMostReported);
    const int64_t change = bytes - reportedBytes_;
    const int64_t least = std::max(kLeastReported, reportedBytes_ / 8);
    if (change < least && change > -least && bytes != 0) return;
    int64_t total;
    if (change != 0 && napi_adjust_external_memory(env, change, &total) == napi_ok) {
      reportedBytes_ = bytes;
    }
  }

 protected:
  using Methods = std::vector<Napi::ClassPropertyDescriptor<Self>>;
  using Calls = std::vector<std::pair<const char*, napi_callback>>;

  // The class: methods of its objects, and its raw functions.
  static Napi::Function define(Napi::Env env, const char* name, Registry<Self>& registry,
                               const Methods& methods, const Calls& calls) {
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

 private:
  // Of all threads, for an object that is constructed only to be refused, and deleted at once.
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

  static Secret secretOf(const Napi::Value& secret) {
    if (secret.IsTypedArray()) {
      const auto array = secret.As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_biguint64_array && array.ElementLength() == 2) {
        const uint64_t* words = secret.As<Napi::BigUint64Array>().Data();
        return {words[0], words[1]};
      }
    }
    Napi::TypeError::New(secret.Env(), "a secret is two 64-bit words").ThrowAsJavaScriptException();
    return {0, 0};
  }

  void setNumber(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (number_ == Registry<Self>::kNone) throwNoMemory(env);
    if (env.IsExceptionPending()) return;
    info.This().As<Napi::Object>().DefineProperty(
        Napi::PropertyDescriptor::Value("number", Napi::Number::New(env, number_), napi_default));
  }

  static constexpr int64_t kLeastReported = 16 << 10;
  static constexpr int64_t kMostReported = 32 << 20;

  Core core_;
  Secret secret_;
  Registry<Self>& registry_;
  const int32_t number_;
  int64_t reportedBytes_ = 0;
};

}  // namespace relay_limiter

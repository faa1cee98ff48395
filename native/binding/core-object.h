// CoreObject: a limiter or a lease table as a JavaScript object. What is called rarely is a method
// of the class. What is called often is a raw function that gets the object by its number, because
// finding an object from `this` costs 74 ns, more than a whole check.
#pragma once

#include <napi.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#include "../table/fingerprint.h"
#include "arguments.h"
#include "registry.h"

namespace relay_limiter {

// A number of the config, which is the first argument of a constructor; `fallback` if the config
// does not have it.
inline double numberIn(const Napi::CallbackInfo& info, const char* name, double fallback = 0) {
  if (!info[0].IsObject()) return fallback;
  const Napi::Value value = info[0].As<Napi::Object>().Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : fallback;
}

template <class Self, class Core>
class CoreObject : public Napi::ObjectWrap<Self> {
 public:
  // Constructs an object; DefineClass registers this function. ObjectWrap's own version does not
  // check whether `new` has found memory.
  static napi_value ConstructorCallbackWrapper(napi_env env, napi_callback_info callback) noexcept {
    const Napi::CallbackInfo info(env, callback);
    if (!info.IsConstructCall()) return Self::OnCalledAsFunction(info);
    auto* object = ::new (std::nothrow) Self(info);
    if (object == nullptr) {
      throwNoMemory(env);
    } else if (info.Env().IsExceptionPending()) {
      // The destructor calls Node-API, which does not work while an exception is pending.
      const Napi::Error error = info.Env().GetAndClearPendingException();
      delete object;
      error.ThrowAsJavaScriptException();
    }
    return info.This();
  }
  // Deleted, so that an ObjectWrap that used its own version would not compile.
  static void* operator new(size_t) = delete;

  // `secret` is a BigUint64Array of two random words.
  template <class... Config>
  CoreObject(const Napi::CallbackInfo& info, const Napi::Value& secret, const Config&... config)
      : Napi::ObjectWrap<Self>(info),
        core_(config...),
        secret_(secretOf(secret)),
        registry_(*static_cast<Registry<Self>*>(info.Data())),
        number_(registry_.add(static_cast<Self*>(this))) {
    setNumber(info);
  }

  ~CoreObject() {
    registry_.remove(number_);
    core_.clear();
    reportExternalMemory(this->Env());
  }

  Core& core() noexcept { return core_; }
  const Secret& secret() const noexcept { return secret_; }
  CallArguments& callArguments() noexcept { return *registry_.callArguments(); }
  // Call this only while no record depends on the old secret.
  void setSecret(const Secret& secret) noexcept { secret_ = secret; }

  // Reports the size of the tables to V8, which otherwise would not know how much memory the object
  // frees when it is collected. Call this after every operation that may change the size; small
  // changes are reported later. At most kMaxReportedBytes are reported: a large table that grows is
  // in use, and its full size would make V8 collect garbage repeatedly, in steps of 5 to 10 ms.
  void reportExternalMemory(napi_env env) noexcept {
    const auto bytes = std::min(static_cast<int64_t>(core_.memoryBytes()), kMaxReportedBytes);
    const int64_t change = bytes - reportedBytes_;
    const int64_t least = std::max(kMinReportedChange, reportedBytes_ / 8);
    if (change < least && change > -least && bytes != 0) return;
    int64_t total;
    if (change != 0 && napi_adjust_external_memory(env, change, &total) == napi_ok) {
      reportedBytes_ = bytes;
    }
  }

 protected:
  using Methods = std::vector<Napi::ClassPropertyDescriptor<Self>>;
  using RawFunctions = std::vector<std::pair<const char*, napi_callback>>;

  // The class with its methods and its raw functions.
  static Napi::Function define(Napi::Env env, const char* name, Registry<Self>& registry,
                               const Methods& methods, const RawFunctions& rawFunctions) {
    const Napi::Function constructor = Self::DefineClass(env, name, methods, &registry);
    // The thread is ending.
    if (constructor.IsEmpty()) return constructor;
    for (const auto& [rawName, callback] : rawFunctions) {
      napi_value function;
      if (napi_create_function(env, rawName, NAPI_AUTO_LENGTH, callback, &registry, &function) ==
          napi_ok) {
        constructor.Set(rawName, function);
      }
    }
    return constructor;
  }

 private:
  static Secret secretOf(const Napi::Value& secret) {
    if (secret.IsTypedArray()) {
      const auto array = secret.As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_biguint64_array && array.ElementLength() == 2) {
        const uint64_t* words = secret.As<Napi::BigUint64Array>().Data();
        return {words[0], words[1]};
      }
    }
    Napi::TypeError::New(secret.Env(), "the secret must be a BigUint64Array of 2 words")
        .ThrowAsJavaScriptException();
    return {0, 0};
  }

  void setNumber(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (number_ == Registry<Self>::kNone) throwNoMemory(env);
    if (env.IsExceptionPending()) return;
    info.This().As<Napi::Object>().DefineProperty(
        Napi::PropertyDescriptor::Value("number", Napi::Number::New(env, number_), napi_default));
  }

  static constexpr int64_t kMinReportedChange = 16 << 10;
  static constexpr int64_t kMaxReportedBytes = 32 << 20;

  Core core_;
  Secret secret_;
  Registry<Self>& registry_;
  const int32_t number_;
  int64_t reportedBytes_ = 0;
};

}  // namespace relay_limiter

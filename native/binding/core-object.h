// CoreObject: a limiter or a lease table as a JavaScript object. Methods that are called rarely are
// methods of the class. Each hot function is a raw function that gets the object by its number,
// because finding an object from `this` costs 74 ns, more than a whole check.
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

template <class Self, class Core>
class CoreObject : public Napi::ObjectWrap<Self> {
 public:
  // node-addon-api calls this function to construct an object. Its own version, in ObjectWrap,
  // would dereference the nullptr that `new` returns if there is no memory.
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
  // Without this, an ObjectWrap that no longer calls the function above would compile.
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

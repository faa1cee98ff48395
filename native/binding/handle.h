// Handles: what JavaScript holds of a limiter's besides the limiter itself, as external values. A
// handle is given with each call to the limiter that made it; another limiter refuses it.
#pragma once

#include <napi.h>

#include "arguments.h"

namespace relay_limiter {

enum class HandleKind : uint32_t { kGroup, kWalk };

// What every handle begins with.
struct Handle {
  const HandleKind kind;
  // The limiter's number: its address may become another's.
  const uint64_t limiter;
};

// A JavaScript value that owns `handle`; undefined, an exception pending, if there is no memory.
template <class Of>
Napi::Value wrapped(Napi::Env env, Of* handle) noexcept {
  napi_value result = nullptr;
  const auto finalize = [](napi_env, void* data, void*) {
    delete static_cast<Of*>(static_cast<Handle*>(data));
  };
  if (handle == nullptr || napi_create_external(env, static_cast<Handle*>(handle), finalize,
                                                nullptr, &result) != napi_ok) {
    delete handle;
    throwNoMemory(env);
    return env.Undefined();
  }
  return Napi::Value(env, result);
}

// The handle in `value`, if it is of this kind and this limiter's; else nullptr, an exception
// pending.
template <class Of>
Of* handleIn(napi_env env, napi_value value, uint64_t limiter) noexcept {
  void* data = nullptr;
  if (napi_get_value_external(env, value, &data) == napi_ok && data != nullptr) {
    auto* handle = static_cast<Handle*>(data);
    if (handle->kind == Of::kKind && handle->limiter == limiter) return static_cast<Of*>(handle);
  }
  napi_throw_type_error(env, "ERR_LIMITER_KEY", "not a handle of this limiter");
  return nullptr;
}

}  // namespace relay_limiter

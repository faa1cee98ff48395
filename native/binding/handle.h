// Handles: state of a limiter that JavaScript holds as external values. JavaScript passes a handle
// to the limiter that created it with each call; every other limiter rejects it.
#pragma once

#include <napi.h>

#include "arguments.h"

namespace relay_limiter {

enum class HandleKind : uint32_t { kGroup, kWalk };

// The base of every handle.
struct Handle {
  const HandleKind kind;
  // An id, because the limiter's address may be reused.
  const uint64_t limiterId;
};

// A JavaScript value that owns `handle`. If there is no memory, or `handle` is nullptr, this
// returns undefined and an exception is pending.
template <class Type>
Napi::Value wrapHandle(Napi::Env env, Type* handle) noexcept {
  napi_value result = nullptr;
  const auto finalize = [](napi_env, void* data, void*) {
    delete static_cast<Type*>(static_cast<Handle*>(data));
  };
  if (handle == nullptr || napi_create_external(env, static_cast<Handle*>(handle), finalize,
                                                nullptr, &result) != napi_ok) {
    delete handle;
    throwNoMemory(env);
    return env.Undefined();
  }
  return Napi::Value(env, result);
}

// The handle in `value`. If it is of another kind or another limiter, this returns nullptr and an
// exception is pending.
template <class Type>
Type* unwrapHandle(napi_env env, napi_value value, uint64_t limiterId) noexcept {
  void* data = nullptr;
  if (napi_get_value_external(env, value, &data) == napi_ok && data != nullptr) {
    auto* handle = static_cast<Handle*>(data);
    if (handle->kind == Type::kKind && handle->limiterId == limiterId)
      return static_cast<Type*>(handle);
  }
  napi_throw_type_error(env, "ERR_LIMITER_KEY", "the handle must belong to this limiter");
  return nullptr;
}

}  // namespace relay_limiter

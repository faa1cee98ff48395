// Arguments: how keys and numbers from JavaScript reach the limiters. The facades validate them, so
// this file throws only for what a facade cannot check: missing memory, and calls that bypass it.
#pragma once

#include <node_api.h>

#include <memory>
#include <new>

#include "../memory/compiler.h"
#include "../table/fingerprint.h"
#include "registry.h"

namespace relay_limiter {

inline void throwNoMemory(napi_env env) noexcept {
  napi_throw_error(env, "ERR_LIMITER_MEMORY", "no memory for one more peer");
}

// One call of a raw function of the class `Self`: its object, and at most `kMaxArguments`
// JavaScript arguments.
template <class Self, size_t kMaxArguments>
struct Call {
  // If there is no such object, `object` is nullptr and an exception is pending.
  Call(napi_env env, napi_callback_info info) noexcept {
    void* data = nullptr;
    size_t count = kMaxArguments;
    napi_get_cb_info(env, info, &count, arguments, nullptr, &data);
    const auto* registry = static_cast<const Registry<Self>*>(data);
    numbers = registry->callArguments();
    object = registry->at(numbers->object);
    if (object == nullptr) {
      napi_throw_type_error(env, "ERR_LIMITER_KEY", "no object has this number");
    }
  }

  double cost() const noexcept { return numbers->cost; }

  // The caller's time; if that is NaN, the object's own clock.
  double now() const noexcept {
    return numbers->now == numbers->now ? numbers->now : object->now();
  }

  napi_value arguments[kMaxArguments];
  const CallArguments* numbers;
  Self* object;
};

// The text of a key, copied out of JavaScript in UTF-16 code units. UTF-8 would make equal all keys
// that differ only in a lone surrogate.
class KeyText {
 public:
  // False if the text cannot be read; then an exception is pending.
  bool read(napi_env env, napi_value value) noexcept {
    napi_status status = napi_get_value_string_utf16(env, value, inline_, kInlineUnits, &length_);
    if (status == napi_ok && length_ == kInlineUnits - 1) status = readLong(env, value);
    return status == napi_ok || throwUnreadable(env, status);
  }

  Key key(const Secret& secret) const noexcept {
    return keyWith(fingerprintOf(text_, length_, secret));
  }

  // The key of a peer whose fingerprint is known.
  Key keyWith(const Fingerprint& fingerprint) const noexcept {
    return {fingerprint, text_, length_};
  }

 private:
  // Enough for an address, a UUID, a public key or an onion name; and for a digest of 129 units,
  // which replaces a longer key in shared limits. A change of a lease must not need memory.
  static constexpr size_t kInlineUnits = 136;

  RELAY_LIMITER_NOINLINE static bool throwUnreadable(napi_env env, napi_status status) noexcept {
    if (status == napi_string_expected) {
      napi_throw_type_error(env, "ERR_LIMITER_KEY", "a peer key must be a string");
    } else {
      throwNoMemory(env);
    }
    return false;
  }

  // A key that fills the buffer may be longer. This reads its length, and copies a longer key to
  // the heap.
  RELAY_LIMITER_NOINLINE napi_status readLong(napi_env env, napi_value value) noexcept {
    napi_status status = napi_get_value_string_utf16(env, value, nullptr, 0, &length_);
    if (status != napi_ok || length_ < kInlineUnits) return status;
    heap_.reset(new (std::nothrow) char16_t[length_ + 1]);
    if (heap_ == nullptr) return napi_generic_failure;
    text_ = heap_.get();
    return napi_get_value_string_utf16(env, value, heap_.get(), length_ + 1, &length_);
  }

  char16_t inline_[kInlineUnits];
  std::unique_ptr<char16_t[]> heap_;
  const char16_t* text_ = inline_;
  size_t length_ = 0;
};

// One call of a raw function with a key as its only argument.
template <class Self>
struct KeyCall : Call<Self, 1> {
  // If the object or the key cannot be read, `object` is nullptr and an exception is pending.
  KeyCall(napi_env env, napi_callback_info info) noexcept : Call<Self, 1>(env, info) {
    if (this->object != nullptr && !text.read(env, this->arguments[0])) this->object = nullptr;
  }

  Key key() const noexcept { return text.key(this->object->secret()); }

  KeyText text;
};

// Reads the key at `index` of an array. False if that fails; an exception may be pending then.
inline bool readElement(napi_env env, napi_value keys, uint32_t index, KeyText& text) noexcept {
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  napi_value element = nullptr;
  const bool read =
      napi_get_element(env, keys, index, &element) == napi_ok && text.read(env, element);
  napi_close_handle_scope(env, scope);
  return read;
}

}  // namespace relay_limiter

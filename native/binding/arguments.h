// Arguments: how JavaScript's keys and numbers reach the limiters, and how the two errors that only
// this side can see go back. The facades have validated everything else.
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

// One call of a raw function of the class `Self`: its arguments, at most `kMost`, and its words.
template <class Self, size_t kMost>
struct Call {
  // Where the words name no object of the class `object` is nullptr, an exception pending.
  Call(napi_env env, napi_callback_info info) noexcept {
    void* data = nullptr;
    size_t count = kMost;
    napi_get_cb_info(env, info, &count, arguments, nullptr, &data);
    const auto* registry = static_cast<const Registry<Self>*>(data);
    words = registry->words();
    object = registry->at(words->object);
    if (object == nullptr) napi_throw_type_error(env, "ERR_LIMITER_KEY", "no such object");
  }

  double cost() const noexcept { return words->cost; }

  // The caller's time, or ours.
  double now() const noexcept { return words->now == words->now ? words->now : object->now(); }

  napi_value arguments[kMost];
  const CallArguments* words;
  Self* object;
};

// The text of a key, copied out of JavaScript in its own code units: UTF-8 would make one key of
// all that differ in a lone surrogate.
class KeyText {
 public:
  // False where it cannot be read; then an exception is pending.
  bool read(napi_env env, napi_value value) noexcept {
    napi_status status = napi_get_value_string_utf16(env, value, inline_, kInline, &length_);
    if (status == napi_ok && length_ == kInline - 1) status = readLong(env, value);
    return status == napi_ok || refuse(env, status);
  }

  Key key(const Secret& secret) const noexcept {
    return named(fingerprintOf(text_, length_, secret));
  }

  // The key of a peer whose fingerprint is known.
  Key named(const Fingerprint& fingerprint) const noexcept { return {fingerprint, text_, length_}; }

 private:
  // Enough for an address, a UUID, a public key or an onion name; and for the digest of 129 units
  // by which shared limits know a longer one, whose leases must need no memory to change.
  static constexpr size_t kInline = 136;

  RELAY_LIMITER_NOINLINE static bool refuse(napi_env env, napi_status status) noexcept {
    if (status == napi_string_expected) {
      napi_throw_type_error(env, "ERR_LIMITER_KEY", "a peer key must be a string");
    } else {
      throwNoMemory(env);
    }
    return false;
  }

  // Where the key fills the buffer it may be longer: ask, and copy it to the heap if so.
  RELAY_LIMITER_NOINLINE napi_status readLong(napi_env env, napi_value value) noexcept {
    napi_status status = napi_get_value_string_utf16(env, value, nullptr, 0, &length_);
    if (status != napi_ok || length_ < kInline) return status;
    heap_.reset(new (std::nothrow) char16_t[length_ + 1]);
    if (heap_ == nullptr) return napi_generic_failure;
    text_ = heap_.get();
    return napi_get_value_string_utf16(env, value, heap_.get(), length_ + 1, &length_);
  }

  char16_t inline_[kInline];
  std::unique_ptr<char16_t[]> heap_;
  const char16_t* text_ = inline_;
  size_t length_ = 0;
};

// The text of the key at `index` of an array; false where there is none, an exception pending or
// not.
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

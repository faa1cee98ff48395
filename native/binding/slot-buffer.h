// SlotBuffer is the Int32Array in which JavaScript passes the slot of an opened peer to a check,
// and the check returns the peer's new slot.
#pragma once

#include <napi.h>

#include "../table/peer-slot.h"

namespace relay_limiter {

class SlotBuffer {
 public:
  // If `value` is no such array, an exception is pending.
  void open(Napi::Env env, const Napi::Value& value) {
    if (env.IsExceptionPending()) return;
    if (value.IsTypedArray()) {
      const auto array = value.As<Napi::TypedArray>();
      if (array.TypedArrayType() == napi_int32_array && array.ElementLength() == 3) {
        reference_ = Napi::Persistent(value.As<Napi::Object>());
        words_ = value.As<Napi::Int32Array>().Data();
        return;
      }
    }
    Napi::TypeError::New(env, "the slot buffer must be an Int32Array of 3 words")
        .ThrowAsJavaScriptException();
  }

  PeerSlot read() const noexcept { return {words_[0], words_[1], words_[2]}; }

  void write(const PeerSlot& slot) noexcept {
    words_[0] = slot.place;
    words_[1] = slot.low;
    words_[2] = slot.high;
  }

 private:
  // Keeps the memory of words_.
  Napi::ObjectReference reference_;
  int32_t* words_ = nullptr;
};

}  // namespace relay_limiter

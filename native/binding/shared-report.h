// What the objects of limiters in shared files report to JavaScript: errors, the state of the file,
// and lists of offenders.
#pragma once

#include <napi.h>

#include <memory>
#include <new>

#include "../shared/lists.h"
#include "../shared/region.h"
#include "report.h"

namespace relay_limiter {

// The delay of a check whose shard is stalled, in seconds; STALLED_SECONDS in lib/engine/engine.ts.
constexpr double kStalledDelay = 0.05;

// A text, such as a path, in UTF-8; empty without memory. Not a std::string, which would link the
// standard library's exceptions.
class Utf8Text {
 public:
  explicit Utf8Text(const Napi::Value& value) noexcept {
    size_t length = 0;
    if (napi_get_value_string_utf8(value.Env(), value, nullptr, 0, &length) != napi_ok) return;
    text_.reset(new (std::nothrow) char[length + 1]);
    if (text_ == nullptr) return;
    text_[0] = '\0';
    napi_get_value_string_utf8(value.Env(), value, text_.get(), length + 1, &length_);
  }

  const char* text() const noexcept { return text_ == nullptr ? "" : text_.get(); }
  // In bytes.
  size_t length() const noexcept { return length_; }

 private:
  size_t length_ = 0;
  std::unique_ptr<char[]> text_;
};

inline void throwShared(napi_env env, const SharedError& error) noexcept {
  napi_throw_error(env, error.code, error.message);
}

// The error of a call that cannot lock a part of the table. `process` is 0 if it is unknown.
inline void throwLocked(napi_env env, const SharedRegion& region, uint32_t process) noexcept {
  SharedError error;
  if (process == 0) {
    error.fail("the shared file %s cannot be used: a part of it is locked or damaged",
               region.path());
    return throwShared(env, error);
  }
  error.fail(
      "process %lu keeps a part of the shared file %s locked: it is stopped, or gets no processor "
      "time",
      static_cast<unsigned long>(process), region.path());
  throwShared(env, error);
}

// { path, createdAt, attached, isDetached }
inline Napi::Object sharedStateOf(Napi::Env env, const SharedRegion& region) {
  Napi::Object result = Napi::Object::New(env);
  Napi::Array attached = Napi::Array::New(env);
  region.eachAttached([&](uint32_t pid, double since) {
    Napi::Object limiter = Napi::Object::New(env);
    limiter.Set("pid", static_cast<double>(pid));
    limiter.Set("since", since);
    attached.Set(attached.Length(), limiter);
  });
  result.Set("path", region.path());
  result.Set("createdAt", region.header().founding.createdAt);
  result.Set("attached", attached);
  result.Set("isDetached", region.isDetached());
  return result;
}

// The offenders with the most violations, as pairs of a key and violations.
inline Napi::Array topViolatorsOf(Napi::Env env, const WorstOffenders& worst) {
  Napi::Array result = Napi::Array::New(env, worst.size());
  for (size_t i = 0; i < worst.size(); ++i) {
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, worst[i].key.key()));
    pair.Set(1u, static_cast<double>(worst[i].violations));
    result.Set(static_cast<uint32_t>(i), pair);
  }
  return result;
}

// BansInForce of lib/common/types.ts.
inline Napi::Object bansInForceOf(Napi::Env env, const BanList& list, size_t count) {
  Napi::Array bans = Napi::Array::New(env);
  for (size_t i = 0; i < list.size(); ++i) {
    const Napi::HandleScope scope(env);
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, list[i].key.key()));
    pair.Set(1u, list[i].secondsLeft);
    bans.Set(static_cast<uint32_t>(i), pair);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("count", static_cast<double>(count));
  result.Set("bans", bans);
  return result;
}

}  // namespace relay_limiter

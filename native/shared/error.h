// SharedError is the error of an operation on a shared file, as a value: a stable code and a
// message that names the file and what was expected.
#pragma once

#include <cstdarg>
#include <cstdio>

namespace relay_limiter {

struct SharedError {
  // As `code` of the JavaScript error: ERR_LIMITER_SHARED or ERR_LIMITER_MEMORY. nullptr without an
  // error.
  const char* code = nullptr;
  char message[1024] = {};

  explicit operator bool() const noexcept { return code != nullptr; }

  // Sets code and message, and returns false for the caller to return.
#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  bool
  fail(const char* format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    set("ERR_LIMITER_SHARED", format, arguments);
    va_end(arguments);
    return false;
  }

  // The same with ERR_LIMITER_MEMORY.
#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  bool
  failForMemory(const char* format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    set("ERR_LIMITER_MEMORY", format, arguments);
    va_end(arguments);
    return false;
  }

 private:
#if defined(__GNUC__)
  __attribute__((format(printf, 3, 0)))
#endif
  void
  set(const char* newCode, const char* format, va_list arguments) noexcept {
    code = newCode;
    std::vsnprintf(message, sizeof message, format, arguments);
  }
};

}  // namespace relay_limiter

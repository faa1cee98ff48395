// What the tests of shared files have in common.
#pragma once

#include <fcntl.h>

#include "shared-limiters.h"

constexpr RateLimiterConfig kRate{10, 20, kInfinity, 1000};
constexpr double kNow = 1000;

inline Verdict checkRate(SharedRate& limiter, unsigned peer, double now = kNow, double cost = 1) {
  TestKey key(peer);
  Key copy = key.key();
  SharedBucketCheck<SharedRate> check{cost, now};
  return checkShared(limiter, copy, check);
}

// Attaches with this config, which must fail with this code and text.
template <class Limiter = SharedRate, class Config = RateLimiterConfig>
inline void requireRefusal(const char* path, const char* text, const Config& config = kRate,
                           const char* code = "ERR_LIMITER_SHARED") {
  Limiter limiter(config);
  SharedError error;
  const bool attached = limiter.attach(path, kSecret, error);
  if (!attached && std::strcmp(error.code, code) == 0 &&
      std::strstr(error.message, text) != nullptr && std::strstr(error.message, path) != nullptr) {
    return;
  }
  std::fprintf(stderr, "%s: %s, not %s\n", attached ? "attached" : error.code, error.message, text);
  require(false, "an unsafe file is refused");
}

inline void createFile(const TestFile& file) {
  SharedRate limiter(kRate);
  attach(limiter, file);
  checkRate(limiter, 1);
}

inline std::string contentOf(const char* path) {
  std::string content;
  const int file = open(path, O_RDONLY);
  char bytes[4096];
  for (ssize_t n; (n = read(file, bytes, sizeof bytes)) > 0;) {
    content.append(bytes, static_cast<size_t>(n));
  }
  close(file);
  return content;
}

// The configs of limiters, read from JavaScript. lib/engine/engine.ts describes them.
#pragma once

#include <napi.h>

#include "../limiters/connection-tables.h"
#include "../limiters/orderbook-limiter.h"
#include "../limiters/rate-limiter.h"
#include "core-object.h"

namespace relay_limiter {

inline RateLimiterConfig rateLimiterConfigIn(const Napi::CallbackInfo& info) {
  return {numberIn(info, "rateLimit"), numberIn(info, "burstLimit"),
          numberIn(info, "disconnectThreshold", kInfinity), numberIn(info, "maxPeers", kInfinity)};
}

inline OrderbookConfig orderbookConfigIn(const Napi::CallbackInfo& info) {
  return {numberIn(info, "interval"),
          numberIn(info, "violationBanThreshold"),
          numberIn(info, "violationWarningThreshold"),
          numberIn(info, "violationSevereThreshold"),
          numberIn(info, "banDuration"),
          numberIn(info, "maxPeers", kInfinity)};
}

inline DirectConfig directConfigIn(const Napi::CallbackInfo& info) {
  return {numberIn(info, "messageRatePerSec"), numberIn(info, "messageBurst"),
          numberIn(info, "orderbookInterval"), numberIn(info, "orderbookBanThreshold"),
          numberIn(info, "banDuration"),       numberIn(info, "maxPeers", kInfinity)};
}

}  // namespace relay_limiter

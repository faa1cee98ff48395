// Verdict is the result of a check. The binding translates it to the values that
// lib/engine/engine.ts defines.
#pragma once

namespace relay_limiter {

enum class Verdict {
  kAllowed,
  kRefused,
  // Refused: a new peer, and no stored peer may be evicted for it. Nothing is stored for it.
  kNoRoom,
  // Refused, and the caller should disconnect the peer: it has reached the disconnect threshold or
  // is banned.
  kDisconnect,
  // Refused, and this check begins a ban.
  kBanBegins,
  // Not decided and not counted: the key's text is needed. The caller repeats the check with it.
  kNeedsText,
  // Not decided: there is no memory for a new peer or offender.
  kNoMemory,
  // Refused without a decision: another process keeps the peer's shard locked.
  kStalled,
};

}  // namespace relay_limiter

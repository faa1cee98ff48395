// Verdict: what a check decides; the binding says it to JavaScript as lib/engine/engine.ts wants
// it.
#pragma once

namespace relay_limiter {

enum class Verdict {
  kAllowed,
  kRefused,
  // Refused: a newcomer, and nobody may go for it. Nothing is kept of it.
  kNoRoom,
  // To be disconnected: over the threshold, or banned.
  kDisconnect,
  // Refused, and a ban begins with it.
  kBanBegins,
  // Undecided, and nothing counted: a new offender must be named, and the key came without its
  // text.
  kNeedsName,
  // Undecided: a new peer or offender found no memory.
  kNoMemory,
};

}  // namespace relay_limiter

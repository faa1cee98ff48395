// SharedAttachment is what limiters of every kind know of their shared file: how it is laid out,
// where it is mapped, and the secret in it.
#pragma once

#include "region.h"

namespace relay_limiter {

class SharedAttachment {
 public:
  SharedAttachment() noexcept = default;
  SharedAttachment(const SharedAttachment&) = delete;
  SharedAttachment& operator=(const SharedAttachment&) = delete;

  void detach() noexcept { region_.detach(); }

  SharedRegion& region() noexcept { return region_; }
  const SharedLayout& layout() const noexcept { return layout_; }
  // The secret as of the last call that needed it. Another process may have changed it: a call with
  // the text of a key finds out, and makes the fingerprint again.
  const Secret& secret() const noexcept { return secret_; }
  // The secret of the file, for what has only fingerprints.
  const Secret& currentSecret() noexcept {
    refreshSecret();
    return secret_;
  }
  uint32_t secretVersion() const noexcept { return secretVersion_; }
  // The process that held the shard of the last call that found one stalled; 0 if it is unknown.
  uint32_t stalledBy() const noexcept { return stalledBy_; }

 protected:
  ~SharedAttachment() = default;

  void refreshSecret() noexcept {
    secretVersion_ = region_.header().secretVersion.load();
    secret_ = region_.header().secret(secretVersion_);
  }

  // False if another process is cleaning.
  bool beginCleaning() noexcept {
    std::atomic<uint64_t>& cleaner = region_.header().cleaner;
    uint64_t other = cleaner.load();
    if (other != 0 && region_.isAlive(other)) return false;
    return cleaner.compare_exchange_strong(other, region_.nextWord());
  }

  SharedLayout layout_;
  SharedRegion region_;
  // Copies of what the file says.
  Secret secret_ = {};
  uint32_t secretVersion_ = 0;
  uint32_t stalledBy_ = 0;
};

}  // namespace relay_limiter

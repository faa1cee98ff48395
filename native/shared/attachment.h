// SharedAttachment is what limiters of every kind know of their shared file: how it is laid out,
// where it is mapped, and the secret in it.
#pragma once

#include <algorithm>

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

  // Begins a cleanup of about `budgetMs`, if no other limiter of the file is in one. Who is stopped
  // in it keeps others from it for a second longer, or for a minute at most; one that goes on after
  // that cleans beside another, which harms nothing: both lock what they clean.
  bool beginCleaning(double budgetMs, double now = monotonicSeconds()) noexcept {
    const auto milliseconds = static_cast<uint32_t>(static_cast<uint64_t>(now * 1000));
    std::atomic<uint64_t>& cleaner = region_.header().cleaner;
    uint64_t other = cleaner.load();
    // The milliseconds begin again after 49 days, so only differences count.
    const auto left = static_cast<int32_t>(static_cast<uint32_t>(other) - milliseconds);
    if (left > 0 && left <= kMostCleaningMs && region_.isAlive(other)) return false;
    const double most = std::min(budgetMs + 1000, double{kMostCleaningMs});
    cleaning_ = region_.name() | static_cast<uint32_t>(milliseconds + static_cast<uint32_t>(most));
    return cleaner.compare_exchange_strong(other, cleaning_);
  }

  void endCleaning() noexcept {
    uint64_t own = cleaning_;
    region_.header().cleaner.compare_exchange_strong(own, 0);
  }

  SharedLayout layout_;
  SharedRegion region_;
  // Copies of what the file says.
  Secret secret_ = {};
  uint32_t secretVersion_ = 0;
  uint32_t stalledBy_ = 0;

 private:
  static constexpr int32_t kMostCleaningMs = 60000;

  // What beginCleaning() has written.
  uint64_t cleaning_ = 0;
};

}  // namespace relay_limiter

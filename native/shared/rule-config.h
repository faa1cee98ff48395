// The rules in a shared file, which every process that shares it decides by: the text that the
// facade has written, and what the engine remembers of earlier rates. There are two places for
// them. An update writes the one that is not current, and then counts up the version, whose lowest
// bit says which one is current. Both places are allocated as far as they are written.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "region.h"

namespace relay_limiter {

// The most bytes of a text, and of the history of rates.
constexpr size_t kMostRuleText = size_t{1} << 20;
constexpr size_t kMostRuleHistory = size_t{1} << 20;

// At the beginning of a place.
struct RuleConfigHead {
  uint64_t version;
  uint64_t textBytes;
  // Of doubles.
  uint64_t historySize;
  // Of the members above and all bytes after the head.
  uint64_t checksum;
};

constexpr size_t kRuleConfigBytes =
    roundUp(sizeof(RuleConfigHead) + kMostRuleText + kMostRuleHistory, kSharedBlock);

// Two words that differ if two texts differ: no attacker writes both.
inline void hashText(const char* text, size_t length, uint64_t (&hash)[2]) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text);
  const Fingerprint fingerprint = siphash::hash<2, 4>(bytes, length, Secret{1, 2});
  hash[0] = fingerprint.low;
  hash[1] = fingerprint.high;
}

// A copy of the rules in a file, and the way to write them.
class RuleConfig {
 public:
  uint32_t version() const noexcept { return version_; }
  const char* text() const noexcept {
    return reinterpret_cast<const char*>(bytes_.get()) + history_;
  }
  size_t textBytes() const noexcept { return textBytes_; }
  const double* history() const noexcept { return reinterpret_cast<const double*>(bytes_.get()); }
  size_t historySize() const noexcept { return history_ / sizeof(double); }

  // Copies the current rules. False with an error if there are none that are intact.
  bool read(const SharedRegion& region, SharedError& error) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      const uint32_t version = region.header().configVersion.load();
      const unsigned char* const place = placeOf(region, version);
      RuleConfigHead head;
      std::memcpy(&head, place, sizeof head);
      if (areSane(head) && !copy(place, head)) {
        return error.failForMemory("no memory for the rules of the shared file %s", region.path());
      }
      // An update may have written over it meanwhile, if there were two of them.
      if (areSane(head) && head.version == version &&
          head.checksum == checksumOf(head, bytes_.get()) &&
          region.header().configVersion.load() == version) {
        version_ = version;
        return true;
      }
      yieldProcessor();
    }
    return error.fail("the shared file %s cannot be used: its rules are damaged", region.path());
  }

  // Writes the rules of a version. Call it while no other process writes. False with an error if
  // there is no room.
  static bool write(SharedRegion& region, uint32_t version, const char* text, size_t textBytes,
                    const double* history, size_t historySize, SharedError& error) noexcept {
    RuleConfigHead head = {version, textBytes, historySize, 0};
    const size_t historyBytes = historySize * sizeof(double);
    const size_t bytes = roundUp(sizeof head + textBytes + historyBytes, kSharedBlock);
    const size_t offset = offsetOf(region, version);
    if (!areSane(head)) return error.fail("the rules take more than a mebibyte");
    if (!region.file().allocate(offset, bytes)) {
      return error.failForMemory("there is no room for %llu bytes of rules in the shared file",
                                 static_cast<unsigned long long>(bytes));
    }
    unsigned char* const place = region.bytes() + offset;
    unsigned char* const content = place + sizeof head;
    std::memcpy(content, history, historyBytes);
    std::memcpy(content + historyBytes, text, textBytes);
    head.checksum = checksumOf(head, content);
    std::memcpy(place, &head, sizeof head);
    keepOrderOfWrites();
    return true;
  }

 private:
  static constexpr unsigned kMostAttempts = 100;

  static size_t offsetOf(const SharedRegion& region, uint32_t version) noexcept {
    return region.configAt() + (version & 1) * kRuleConfigBytes;
  }
  static const unsigned char* placeOf(const SharedRegion& region, uint32_t version) noexcept {
    return region.bytes() + offsetOf(region, version);
  }

  static bool areSane(const RuleConfigHead& head) noexcept {
    return head.textBytes <= kMostRuleText && head.historySize <= kMostRuleHistory / sizeof(double);
  }

  bool copy(const unsigned char* place, const RuleConfigHead& head) noexcept {
    textBytes_ = static_cast<size_t>(head.textBytes);
    history_ = static_cast<size_t>(head.historySize) * sizeof(double);
    bytes_.reset(new (std::nothrow) unsigned char[history_ + textBytes_ + 1]);
    if (bytes_ == nullptr) return false;
    std::memcpy(bytes_.get(), place + sizeof head, history_ + textBytes_);
    return true;
  }

  static uint64_t checksumOf(const RuleConfigHead& head, const unsigned char* content) noexcept {
    uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&](uint64_t word) { hash = (hash ^ word) * 0x100000001b3; };
    for (const uint64_t word : {head.version, head.textBytes, head.historySize}) add(word);
    const auto bytes = static_cast<size_t>(head.textBytes) +
                       static_cast<size_t>(head.historySize) * sizeof(double);
    for (size_t i = 0; i < bytes; ++i) add(content[i]);
    return hash;
  }

  // The history, then the text.
  std::unique_ptr<unsigned char[]> bytes_;
  size_t history_ = 0;
  size_t textBytes_ = 0;
  uint32_t version_ = 0;
};

}  // namespace relay_limiter

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

// The most bytes of a text, and the most numbers of the history of rates.
constexpr size_t kMostRuleText = size_t{1} << 20;
constexpr size_t kMostRuleHistory = (size_t{1} << 20) / sizeof(double);

// At the beginning of a place.
struct RuleConfigHead {
  uint64_t version;
  uint64_t textBytes;
  // Of doubles.
  uint64_t historySize;
  // For each scope the slots to which this version gave another rule.
  uint16_t added[RuleShape::kMostScopes];
  // Of the members above and all bytes after the head.
  uint64_t checksum;
};

constexpr size_t kRuleConfigBytes = roundUp(
    sizeof(RuleConfigHead) + kMostRuleText + kMostRuleHistory * sizeof(double), kSharedBlock);

// The rules as the facade writes them.
struct RuleText {
  const char* text;
  size_t bytes;
};

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
  const uint16_t* added() const noexcept { return added_; }

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
        std::copy_n(head.added, RuleShape::kMostScopes, added_);
        return true;
      }
      yieldProcessor();
    }
    return error.fail("the shared file %s cannot be used: its rules are damaged", region.path());
  }

  // Makes sure that a version of so many bytes and so many numbers of history can be written.
  // False with an error.
  static bool reserve(SharedRegion& region, uint32_t version, size_t textBytes, size_t historySize,
                      SharedError& error) noexcept {
    if (textBytes > kMostRuleText) {
      return error.fail("the rules must be at most %llu bytes as text, got %llu",
                        static_cast<unsigned long long>(kMostRuleText),
                        static_cast<unsigned long long>(textBytes));
    }
    const size_t bytes =
        roundUp(sizeof(RuleConfigHead) + textBytes + historySize * sizeof(double), kSharedBlock);
    if (region.file().allocate(offsetOf(region, version), bytes)) return true;
    return region.file().failForRoom(region.path(), bytes, error);
  }

  // Writes a version for which reserve() has made room. Call it while no other process writes.
  static void write(SharedRegion& region, uint32_t version, const uint16_t* added,
                    const RuleText& text, const double* history, size_t historySize) noexcept {
    RuleConfigHead head = {version, text.bytes, historySize, {}, 0};
    std::copy_n(added, RuleShape::kMostScopes, head.added);
    const size_t historyBytes = historySize * sizeof(double);
    unsigned char* const place = region.bytes() + offsetOf(region, version);
    unsigned char* const content = place + sizeof head;
    std::memcpy(content, history, historyBytes);
    std::memcpy(content + historyBytes, text.text, text.bytes);
    head.checksum = checksumOf(head, content);
    std::memcpy(place, &head, sizeof head);
    keepOrderOfWrites();
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
    return head.textBytes <= kMostRuleText && head.historySize <= kMostRuleHistory;
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
    for (const uint16_t slots : head.added) add(slots);
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
  uint16_t added_[RuleShape::kMostScopes] = {};
};

}  // namespace relay_limiter

// The layout of a shared file.
//
//   header | heads | pages of the first table | pages of the second | ... | names | rules
//
// A shard is a part of the peers: those whose fingerprints have the same first bits. It has a head
// with its lock and its totals, one page in each table of the limiter, and the names of its
// offenders. The names are allocated when they are first written, all else when the file is
// created. The limiter decides what heads contain and which tables there are (storage.h). The pages
// of one table lie together, because most checks use only the first table: so their addresses share
// entries of the processor's address cache.
//
// A RuleLimiter has one more head, for the state of its single scopes, and the text of its rules
// (rule-config.h).
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../limiters/arithmetic.h"
#include "../table/fingerprint.h"
#include "file.h"

namespace relay_limiter {

// The version of this layout. Processes of another version cannot use the file.
constexpr uint32_t kSharedLayout = 4;

// The maximum number of limiters that are attached to a file at a time.
constexpr uint32_t kAttachSlots = 1024;

// The size to which parts of the file are aligned, and in which names are allocated.
constexpr size_t kSharedBlock = 4096;

template <class Number>
constexpr Number roundUp(Number bytes, size_t unit) noexcept {
  return (bytes + unit - 1) / unit * unit;
}

// One number of a limiter's config, by its name in lib/engine/engine.ts.
struct ConfigNumber {
  char name[32];
  double value;
};

// What a RuleLimiter's file is made for. All zeros for other limiters.
struct RuleShape {
  static constexpr unsigned kMostScopes = 8;

  uint64_t scopes = 0;
  // Bit i: scope i is single.
  uint64_t singleScopes = 0;
  // For each scope the number of rules for which a record has room.
  uint8_t rooms[kMostScopes] = {};
  // Hashes of the text of the scopes, and of the rules with which the file was created.
  uint64_t scopesHash[2] = {};
  uint64_t foundingHash[2] = {};
};

struct SharedLayout {
  static constexpr unsigned kMostNumbers = 16;

  // The name of the limiter's public class.
  char limiter[40] = {};
  uint64_t numbers = 0;
  ConfigNumber config[kMostNumbers] = {};
  uint64_t shards = 0;
  uint64_t headBytes = 0;
  // The bytes of a shard's pages.
  uint64_t pageBytes = 0;
  // Of a shard.
  uint64_t nameBytes = 0;
  // The number of heads that belong to no shard.
  uint64_t extraHeads = 0;
  // Of one of the two places for a text of rules.
  uint64_t configBytes = 0;
  RuleShape rules;

  void setLimiter(const char* name) noexcept { copy(limiter, name); }
  void addNumber(const char* name, double value) noexcept {
    if (numbers == kMostNumbers) return;
    copy(config[numbers].name, name);
    config[numbers++].value = value;
  }

  uint64_t headsAt() const noexcept;
  uint64_t pagesAt() const noexcept {
    return roundUp(headsAt() + (shards + extraHeads) * headBytes, kSharedBlock);
  }
  uint64_t namesAt() const noexcept {
    return roundUp(pagesAt() + shards * pageBytes, kSharedBlock);
  }
  uint64_t configAt() const noexcept {
    return roundUp(namesAt() + shards * nameBytes, kSharedBlock);
  }
  uint64_t totalBytes() const noexcept { return configAt() + 2 * configBytes; }

 private:
  template <size_t kSize>
  static void copy(char (&to)[kSize], const char* from) noexcept {
    std::memset(to, 0, kSize);
    std::memcpy(to, from, std::min(std::strlen(from), kSize - 1));
  }
};

// One attached limiter. The slot is taken while a lock of its byte is held.
struct AttachSlot {
  // The number of limiters that have had this slot, shifted by 32, and the process id; that is 0 if
  // the slot is free.
  std::atomic<uint64_t> owner;
  // In milliseconds since 1970.
  double since;
  // When the process began, on systems without locks of bytes.
  uint64_t processStart;
  uint64_t unused;

  static constexpr uint64_t ownerOf(uint32_t generation, uint32_t pid) noexcept {
    return static_cast<uint64_t>(generation) << 32 | pid;
  }
  static constexpr uint32_t pidOf(uint64_t owner) noexcept { return static_cast<uint32_t>(owner); }
  static constexpr uint32_t generationOf(uint64_t owner) noexcept {
    return static_cast<uint32_t>(owner >> 32);
  }
};

struct SharedHeader {
  // Never changes. Zeros between members, so that a checksum of the bytes can be made.
  struct Founding {
    char magic[8];
    uint32_t version;
    // 0x01020304 in the byte order of the founder.
    uint32_t byteOrder;
    uint32_t wordBytes;
    uint32_t unused;
    uint64_t bytes;
    // In milliseconds since 1970.
    double createdAt;
    Boot boot;
    SharedLayout layout;
  };

  Founding founding;
  uint64_t checksum;

  // The seconds of the wall clock less those of the monotonic clock, as of the latest attachment.
  double wallOffset;
  // Whether the file was removed: newcomers must not join.
  std::atomic<uint32_t> isRemoved;
  // Counts changes of the secret; its lowest bit says which one is current. Changes only while all
  // shards are locked.
  std::atomic<uint32_t> secretVersion;
  Secret secrets[2];
  // The order of the latest first violation or ban.
  std::atomic<uint64_t> order;
  // The limiter that cleans up, or 0: its name in the high half as in lock words, and in the low
  // half until when others leave that to it, in milliseconds of the monotonic clock.
  std::atomic<uint64_t> cleaner;
  // Counts changes of the rules; its lowest bit says which text is current. Changes only while all
  // shards are locked.
  std::atomic<uint32_t> configVersion;
  // The process that joins or removes the file; if none does, the last one.
  std::atomic<uint32_t> joiner;
  // The checks of a RuleLimiter that its lists have allowed and denied.
  std::atomic<uint64_t> listed[2];
  // The bits of a double: no ban of a RuleLimiter ends later. Each check reads it.
  alignas(64) std::atomic<uint64_t> latestBanEnd;
  // The file that was allocated. Another one with this header is a copy, which may have holes.
  FileId file;

  alignas(64) AttachSlot slots[kAttachSlots];

  static constexpr char kMagic[8] = {'r', 'l', 's', 'h', 'a', 'r', 'e', 'd'};

  const Secret& secret(uint32_t version) const noexcept { return secrets[version & 1]; }

  void found(const SharedLayout& layout, const Secret& secret) noexcept {
    std::memset(static_cast<void*>(&founding), 0, sizeof founding);
    std::memcpy(founding.magic, kMagic, sizeof kMagic);
    founding.version = kSharedLayout;
    founding.byteOrder = 0x01020304;
    founding.wordBytes = sizeof(void*);
    founding.bytes = layout.totalBytes();
    founding.createdAt = wallMilliseconds();
    founding.boot = currentBoot();
    std::memcpy(static_cast<void*>(&founding.layout), &layout, sizeof layout);
    secrets[0] = secret;
    setLatestBanEnd(kNever);
    seal();
  }

  // Replaces the secret. Call this while all shards are locked.
  void change(const Secret& secret) noexcept {
    const uint32_t version = secretVersion.load() + 1;
    secrets[version & 1] = secret;
    keepOrderOfWrites();
    secretVersion.store(version);
  }

  void setLatestBanEnd(double end) noexcept {
    uint64_t bits;
    std::memcpy(&bits, &end, sizeof bits);
    latestBanEnd.store(bits, std::memory_order_relaxed);
  }

  // Call this after a change of `founding`.
  void seal() noexcept { checksum = checksumOf(founding); }

  // Whether this package has created a file that begins with these bytes. `error` gets only the
  // reason.
  static bool hasMagic(const void* bytes, SharedError& error) noexcept {
    return std::memcmp(bytes, kMagic, sizeof kMagic) == 0 ||
           error.fail("it was not created by relay-limiter");
  }

  // Whether a file of so many bytes has this header. `error` gets only the reason.
  bool isIntact(size_t bytes, SharedError& error) const noexcept {
    const Founding& f = founding;
    if (!hasMagic(f.magic, error)) return false;
    if (f.byteOrder != 0x01020304 || f.wordBytes != sizeof(void*)) {
      return error.fail("it was created on a machine of another byte order or word size");
    }
    if (f.version != kSharedLayout) {
      return error.fail("another version of relay-limiter created it: its layout is %lu, not %lu",
                        static_cast<unsigned long>(f.version),
                        static_cast<unsigned long>(kSharedLayout));
    }
    const SharedLayout& l = f.layout;
    if (checksum != checksumOf(f) || l.numbers > SharedLayout::kMostNumbers || l.shards == 0 ||
        l.shards > uint64_t{1} << 24 || l.headBytes > 1 << 16 || l.pageBytes > 1 << 24 ||
        l.nameBytes > 1 << 24 || l.extraHeads > 1 || l.configBytes > 1 << 24 ||
        l.totalBytes() != f.bytes) {
      return error.fail("its header is damaged");
    }
    if (f.bytes != bytes) return error.fail("it is too short or too long");
    return true;
  }

  // Whether a limiter of this layout may use the file. `error` gets only the reason.
  bool agreesWith(const SharedLayout& layout, SharedError& error) const noexcept {
    const SharedLayout& own = founding.layout;
    if (std::strncmp(own.limiter, layout.limiter, sizeof own.limiter) != 0) {
      return error.fail("its limiter is %.39s, not %.39s", own.limiter, layout.limiter);
    }
    if (std::memcmp(own.rules.scopesHash, layout.rules.scopesHash, sizeof own.rules.scopesHash) !=
        0) {
      return error.fail("it was created with other scopes");
    }
    for (unsigned i = 0; i < own.numbers && i < layout.numbers; ++i) {
      const double value = own.config[i].value;
      if (value == layout.config[i].value) continue;
      return error.fail("it was created with %.31s %.15g, not %.15g", own.config[i].name, value,
                        layout.config[i].value);
    }
    for (unsigned i = 0; i < RuleShape::kMostScopes; ++i) {
      if (own.rules.rooms[i] == layout.rules.rooms[i]) continue;
      return error.fail("its records of scope %u have room for %u rules, not %u", i,
                        unsigned{own.rules.rooms[i]}, unsigned{layout.rules.rooms[i]});
    }
    const struct {
      const char* name;
      uint64_t theirs;
      uint64_t ours;
    } sizes[] = {
        {"number of options", own.numbers, layout.numbers},
        {"number of shards", own.shards, layout.shards},
        {"size of a head", own.headBytes, layout.headBytes},
        {"size of a shard's pages", own.pageBytes, layout.pageBytes},
        {"size of a shard's names", own.nameBytes, layout.nameBytes},
        {"number of other heads", own.extraHeads, layout.extraHeads},
        {"size of the rules", own.configBytes, layout.configBytes},
        {"number of scopes", own.rules.scopes, layout.rules.scopes},
        {"set of single scopes", own.rules.singleScopes, layout.rules.singleScopes},
    };
    for (const auto& [name, theirs, ours] : sizes) {
      if (theirs == ours) continue;
      return error.fail("another version of relay-limiter created it: its %s is %llu, not %llu",
                        name, static_cast<unsigned long long>(theirs),
                        static_cast<unsigned long long>(ours));
    }
    return true;
  }

 private:
  // FNV-1a. It finds accidents; whoever may write the file may also write the checksum.
  static uint64_t checksumOf(const Founding& founding) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&founding);
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < sizeof founding; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
  }
};

inline uint64_t SharedLayout::headsAt() const noexcept {
  return roundUp(uint64_t{sizeof(SharedHeader)}, kSharedBlock);
}

}  // namespace relay_limiter

// KeyStore stores the keys of offenders, so that statistics and bans can list them. A stored text
// never moves. It uses one byte per code unit if every unit is below 256, as in most keys, else
// two. The store has no globals; one thread at a time may use it.
//
//   slab   | head | slot 0 | slot 1 | ... |   a page of 16 KiB; slots of 32, 64, 128 or 256 bytes
//
// A text gets the smallest slot that holds it; a text of more than 256 bytes is allocated on the
// heap. A slab is returned to the system with its last text. Every operation takes constant time.
// (The heap would keep the memory of small texts and merge it later, in one long step.)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "page-allocator.h"

namespace relay_limiter {

// A reference to a text in a KeyStore. It may be copied as bytes; all zeros mean no text.
struct StoredKey {
  const void* text;
  // In code units.
  uint32_t length;
  // Whether a code unit takes two bytes.
  bool isTwoByte;

  explicit operator bool() const noexcept { return text != nullptr; }

  // Returns use(const char*, length) for Latin-1 or use(const char16_t*, length) for UTF-16.
  template <class Use>
  decltype(auto) read(Use&& use) const noexcept {
    return isTwoByte ? use(static_cast<const char16_t*>(text), size_t{length})
                     : use(static_cast<const char*>(text), size_t{length});
  }
};

static_assert(sizeof(StoredKey) <= 16, "a key lies in a record of 64 bytes");

inline unsigned codeUnit(char latin1) noexcept { return static_cast<unsigned char>(latin1); }
inline unsigned codeUnit(char16_t unit) noexcept { return unit; }

// The order of code units, which is that of strings in JavaScript.
inline bool operator<(const StoredKey& a, const StoredKey& b) noexcept {
  return a.read([&](const auto* first, size_t length) {
    return b.read([&](const auto* second, size_t otherLength) {
      return std::lexicographical_compare(
          first, first + length, second, second + otherLength,
          [](auto left, auto right) { return codeUnit(left) < codeUnit(right); });
    });
  });
}

template <class Memory = SystemMemory>
class KeyStore {
 public:
  KeyStore() noexcept = default;
  ~KeyStore() noexcept { clear(); }
  KeyStore(const KeyStore&) = delete;
  KeyStore& operator=(const KeyStore&) = delete;

  // The bytes of all slabs and long texts, heads included.
  size_t memoryBytes() const noexcept { return pages_.memoryBytes() + longBytes_; }

  // Stores a copy of a text, which may be empty, and writes `key`. False if there is no memory;
  // then nothing has changed.
  bool add(const char16_t* text, size_t length, StoredKey& key) noexcept {
    if (length > kMostUnits) return false;
    const bool twoByte = isTwoByte(text, length);
    void* place = take(twoByte ? length * sizeof(char16_t) : length);
    if (place == nullptr) return false;
    if (twoByte) {
      copy(text, length, static_cast<char16_t*>(place));
    } else {
      copy(text, length, static_cast<unsigned char*>(place));
    }
    key = {place, static_cast<uint32_t>(length), twoByte};
    return true;
  }

  // Removes the text of a key of this store; does nothing for an empty StoredKey.
  void remove(const StoredKey& key) noexcept {
    if (!key) return;
    const size_t bytes = bytesOf(key);
    void* place = const_cast<void*>(key.text);
    if (bytes > kMostSlotBytes) return removeLong(static_cast<Long*>(place) - 1);
    giveSlot(place, sizeFor(bytes));
  }

  void clear() noexcept {
    while (firstLong_ != nullptr) removeLong(firstLong_);
    for (Slab*& slab : withRoom_) slab = nullptr;
    pages_.giveAll();
  }

 private:
  static constexpr size_t kSlabBytes = size_t{16} << 10;
  static constexpr size_t kHeadBytes = 64;
  static constexpr unsigned kSizes = 4;
  static constexpr size_t kLeastSlotBytes = 32;
  static constexpr size_t kMostSlotBytes = kLeastSlotBytes << (kSizes - 1);
  // More units than any JavaScript string has.
  static constexpr size_t kMostUnits = size_t{1} << 30;

  // The head of a slab. A new page is all zeros, which is a valid head.
  struct Slab {
    // Neighbors in the list of slabs of one slot size with a free slot. A full slab is in no list.
    Slab* previous;
    Slab* next;
    uint16_t used;
    // The number of slots that were ever used. Memory behind them stays untouched.
    uint16_t touched;
    // The first free slot among them, counted from 1; its first bytes hold the next one. 0: none.
    uint16_t free;
  };

  // The head of a long text.
  struct Long {
    Long* previous;
    Long* next;
    size_t bytes;
  };

  static_assert(sizeof(Slab) <= kHeadBytes && kHeadBytes % kLeastSlotBytes == 0, "slots follow");

  template <class Unit>
  static void copy(const char16_t* text, size_t length, Unit* place) noexcept {
    for (size_t i = 0; i < length; ++i) place[i] = static_cast<Unit>(text[i]);
  }

  static bool isTwoByte(const char16_t* text, size_t length) noexcept {
    unsigned bits = 0;
    for (size_t i = 0; i < length; ++i) bits |= text[i];
    return bits > 0xff;
  }

  static size_t bytesOf(const StoredKey& key) noexcept {
    return key.isTwoByte ? key.length * sizeof(char16_t) : key.length;
  }

  // The index of the smallest slot size that holds so many bytes.
  static unsigned sizeFor(size_t bytes) noexcept {
    unsigned size = 0;
    while (bytes > slotBytes(size)) ++size;
    return size;
  }
  static constexpr size_t slotBytes(unsigned size) noexcept { return kLeastSlotBytes << size; }
  static unsigned slotsOf(unsigned size) noexcept {
    return static_cast<unsigned>((kSlabBytes - kHeadBytes) / slotBytes(size));
  }
  static unsigned char* slotAt(Slab* slab, unsigned size, size_t slot) noexcept {
    return reinterpret_cast<unsigned char*>(slab) + kHeadBytes + slot * slotBytes(size);
  }

  void* take(size_t bytes) noexcept {
    return bytes > kMostSlotBytes ? takeLong(bytes) : takeSlot(sizeFor(bytes));
  }

  void* takeSlot(unsigned size) noexcept {
    if (withRoom_[size] == nullptr && !addSlab(size)) return nullptr;
    Slab* slab = withRoom_[size];
    const unsigned slot = slab->free > 0 ? slab->free - 1u : slab->touched++;
    unsigned char* place = slotAt(slab, size, slot);
    if (slab->free > 0) std::memcpy(&slab->free, place, sizeof slab->free);
    if (++slab->used == slotsOf(size)) unlink(slab, withRoom_[size]);
    return place;
  }

  void giveSlot(void* place, unsigned size) noexcept {
    auto* slab = static_cast<Slab*>(pages_.pageAround(place));
    // To the front of the list: the fullest slab is filled first, and the others empty sooner.
    if (slab->used == slotsOf(size)) linkFirst(slab, withRoom_[size]);
    if (--slab->used == 0) {
      unlink(slab, withRoom_[size]);
      return pages_.give(slab);
    }
    const auto behind = static_cast<unsigned char*>(place) - slotAt(slab, size, 0);
    std::memcpy(place, &slab->free, sizeof slab->free);
    slab->free = static_cast<uint16_t>(static_cast<size_t>(behind) / slotBytes(size) + 1);
  }

  bool addSlab(unsigned size) noexcept {
    auto* slab = static_cast<Slab*>(pages_.take());
    if (slab != nullptr) linkFirst(slab, withRoom_[size]);
    return slab != nullptr;
  }

  void* takeLong(size_t bytes) noexcept {
    void* memory = ::operator new(sizeof(Long) + bytes, std::nothrow);
    if (memory == nullptr) return nullptr;
    auto* text = new (memory) Long{nullptr, nullptr, bytes};
    linkFirst(text, firstLong_);
    longBytes_ += sizeof(Long) + bytes;
    return text + 1;
  }

  void removeLong(Long* text) noexcept {
    unlink(text, firstLong_);
    longBytes_ -= sizeof(Long) + text->bytes;
    ::operator delete(text);
  }

  template <class Link>
  static void linkFirst(Link* link, Link*& first) noexcept {
    link->previous = nullptr;
    link->next = first;
    if (first != nullptr) first->previous = link;
    first = link;
  }

  template <class Link>
  static void unlink(Link* link, Link*& first) noexcept {
    (link->previous == nullptr ? first : link->previous->next) = link->next;
    if (link->next != nullptr) link->next->previous = link->previous;
  }

  PageAllocator<kSlabBytes, Memory> pages_;
  Slab* withRoom_[kSizes] = {};
  Long* firstLong_ = nullptr;
  size_t longBytes_ = 0;
};

}  // namespace relay_limiter

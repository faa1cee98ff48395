// Names: a store of texts, the keys of those that must be named. A text lies still until it is
// removed, a byte a unit where each unit is below 256, as in most keys, else two. It knows neither
// whose the texts are nor what is said of them, and has no globals; one thread at a time may use
// it.
//
//   shelf   | head | slot 0 | slot 1 | ... |   a page of 16 KiB, its slots 32, 64, 128 or 256 bytes
//
// A text has a slot of the least size that holds it; one of more than 256 bytes is the heap's. A
// shelf goes back to the system with its last text. All that is one step: the heap would keep what
// small texts leave, and gather it later, all at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "page-allocator.h"

namespace relay_limiter {

// A text in a store. It may be moved as bytes; all zeros are no name.
struct StoredKey {
  const void* text;
  // In code units.
  uint32_t length;
  // Whether a unit takes two bytes.
  bool isTwoByte;

  explicit operator bool() const noexcept { return text != nullptr; }

  // Calls use(const char*, length), of Latin-1, or use(const char16_t*, length), of UTF-16, and
  // returns what it does.
  template <class Use>
  decltype(auto) read(Use&& use) const noexcept {
    return isTwoByte ? use(static_cast<const char16_t*>(text), size_t{length})
                     : use(static_cast<const char*>(text), size_t{length});
  }
};

static_assert(sizeof(StoredKey) <= 16, "a key lies in a record of 64 bytes");

template <class Memory = SystemMemory>
class KeyStore {
 public:
  KeyStore() noexcept = default;
  ~KeyStore() noexcept { clear(); }
  KeyStore(const KeyStore&) = delete;
  KeyStore& operator=(const KeyStore&) = delete;

  // What shelves and long texts take, their heads included.
  size_t memoryBytes() const noexcept { return pages_.memoryBytes() + longBytes_; }

  // Any text has a name, the empty one too. False, and nothing has changed, where there is no
  // memory.
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

  // `name` is of this store, or none.
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
  // No string of JavaScript is as long.
  static constexpr size_t kMostUnits = size_t{1} << 30;

  // The head of a shelf: right when all are zeros, as a page is when it is taken.
  struct Slab {
    // Among the shelves of one size that have room; a full one is in no list.
    Slab* previous;
    Slab* next;
    uint16_t used;
    // How many slots were ever used: memory behind them is not touched before it must be.
    uint16_t touched;
    // A slot that was given back, counted from 1, of which the first bytes name the next one.
    uint16_t free;
  };

  // Before a long text, which lies behind it.
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

  // Which of the sizes of slots, counted from the least.
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
    // First among those with room: as the fullest it is the last to become empty.
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

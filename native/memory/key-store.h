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
struct Name {
  const void* text;
  // In code units.
  uint32_t length;
  // Whether a unit takes two bytes.
  bool wide;

  explicit operator bool() const noexcept { return text != nullptr; }

  // Calls use(const char*, length), of Latin-1, or use(const char16_t*, length), of UTF-16, and
  // returns what it does.
  template <class Use>
  decltype(auto) read(Use&& use) const noexcept {
    return wide ? use(static_cast<const char16_t*>(text), size_t{length})
                : use(static_cast<const char*>(text), size_t{length});
  }
};

static_assert(sizeof(Name) <= 16, "a name lies in a record of 64 bytes");

template <class Memory = SystemMemory>
class Names {
 public:
  Names() noexcept = default;
  ~Names() noexcept { clear(); }
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  // What shelves and long texts take, their heads included.
  size_t memoryBytes() const noexcept { return pages_.memoryBytes() + longBytes_; }

  // Any text has a name, the empty one too. False, and nothing has changed, where there is no
  // memory.
  bool add(const char16_t* text, size_t length, Name& name) noexcept {
    if (length > kMostUnits) return false;
    const bool wide = isWide(text, length);
    void* place = take(wide ? length * sizeof(char16_t) : length);
    if (place == nullptr) return false;
    if (wide) {
      copy(text, length, static_cast<char16_t*>(place));
    } else {
      copy(text, length, static_cast<unsigned char*>(place));
    }
    name = {place, static_cast<uint32_t>(length), wide};
    return true;
  }

  // `name` is of this store, or none.
  void remove(const Name& name) noexcept {
    if (!name) return;
    const size_t bytes = bytesOf(name);
    void* place = const_cast<void*>(name.text);
    if (bytes > kMostSlotBytes) return removeLong(static_cast<Long*>(place) - 1);
    giveSlot(place, sizeFor(bytes));
  }

  void clear() noexcept {
    while (firstLong_ != nullptr) removeLong(firstLong_);
    for (Shelf*& shelf : withRoom_) shelf = nullptr;
    pages_.giveAll();
  }

 private:
  static constexpr size_t kShelfBytes = size_t{16} << 10;
  static constexpr size_t kHeadBytes = 64;
  static constexpr unsigned kSizes = 4;
  static constexpr size_t kLeastSlotBytes = 32;
  static constexpr size_t kMostSlotBytes = kLeastSlotBytes << (kSizes - 1);
  // No string of JavaScript is as long.
  static constexpr size_t kMostUnits = size_t{1} << 30;

  // The head of a shelf: right when all are zeros, as a page is when it is taken.
  struct Shelf {
    // Among the shelves of one size that have room; a full one is in no list.
    Shelf* previous;
    Shelf* next;
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

  static_assert(sizeof(Shelf) <= kHeadBytes && kHeadBytes % kLeastSlotBytes == 0, "slots follow");

  template <class Unit>
  static void copy(const char16_t* text, size_t length, Unit* place) noexcept {
    for (size_t i = 0; i < length; ++i) place[i] = static_cast<Unit>(text[i]);
  }

  static bool isWide(const char16_t* text, size_t length) noexcept {
    unsigned bits = 0;
    for (size_t i = 0; i < length; ++i) bits |= text[i];
    return bits > 0xff;
  }

  static size_t bytesOf(const Name& name) noexcept {
    return name.wide ? name.length * sizeof(char16_t) : name.length;
  }

  // Which of the sizes of slots, counted from the least.
  static unsigned sizeFor(size_t bytes) noexcept {
    unsigned size = 0;
    while (bytes > slotBytes(size)) ++size;
    return size;
  }
  static constexpr size_t slotBytes(unsigned size) noexcept { return kLeastSlotBytes << size; }
  static unsigned slotsOf(unsigned size) noexcept {
    return static_cast<unsigned>((kShelfBytes - kHeadBytes) / slotBytes(size));
  }
  static unsigned char* slotAt(Shelf* shelf, unsigned size, size_t slot) noexcept {
    return reinterpret_cast<unsigned char*>(shelf) + kHeadBytes + slot * slotBytes(size);
  }

  void* take(size_t bytes) noexcept {
    return bytes > kMostSlotBytes ? takeLong(bytes) : takeSlot(sizeFor(bytes));
  }

  void* takeSlot(unsigned size) noexcept {
    if (withRoom_[size] == nullptr && !addShelf(size)) return nullptr;
    Shelf* shelf = withRoom_[size];
    const unsigned slot = shelf->free > 0 ? shelf->free - 1u : shelf->touched++;
    unsigned char* place = slotAt(shelf, size, slot);
    if (shelf->free > 0) std::memcpy(&shelf->free, place, sizeof shelf->free);
    if (++shelf->used == slotsOf(size)) unlink(shelf, withRoom_[size]);
    return place;
  }

  void giveSlot(void* place, unsigned size) noexcept {
    auto* shelf = static_cast<Shelf*>(pages_.pageAround(place));
    // First among those with room: as the fullest it is the last to become empty.
    if (shelf->used == slotsOf(size)) linkFirst(shelf, withRoom_[size]);
    if (--shelf->used == 0) {
      unlink(shelf, withRoom_[size]);
      return pages_.give(shelf);
    }
    const auto behind = static_cast<unsigned char*>(place) - slotAt(shelf, size, 0);
    std::memcpy(place, &shelf->free, sizeof shelf->free);
    shelf->free = static_cast<uint16_t>(static_cast<size_t>(behind) / slotBytes(size) + 1);
  }

  bool addShelf(unsigned size) noexcept {
    auto* shelf = static_cast<Shelf*>(pages_.take());
    if (shelf != nullptr) linkFirst(shelf, withRoom_[size]);
    return shelf != nullptr;
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

  Pages<kShelfBytes, Memory> pages_;
  Shelf* withRoom_[kSizes] = {};
  Long* firstLong_ = nullptr;
  size_t longBytes_ = 0;
};

}  // namespace relay_limiter

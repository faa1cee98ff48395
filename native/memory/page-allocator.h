// PageAllocator allocates pages of one size, filled with zeros, and returns each freed page to the
// system at once. It has no globals; one thread at a time may use it.
//
//   chunk   | head | page 1 | page 2 | ... |   2 MiB of system memory, aligned to 2 MiB
//
// The address of a page leads to the head of its chunk. The first few pages come from the heap
// instead, because most tables stay small and a process may have thousands of them.
//
// A page also has a number. at(number) returns nullptr once the page is freed.
//
// All chunks are in one list: chunks with free pages first, the one that was full most recently
// before the others. New pages go to the fullest chunk this way, and the others empty sooner. An
// empty chunk is returned whole. A chunk without a free page may become a huge page, which the
// system builds in the background. A huge page from the start would make the first access zero 2
// MiB, and use memory for pages that may never be needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "page-directory.h"
#include "system-memory.h"

namespace relay_limiter {

template <size_t kPageBytes, class Memory = SystemMemory>
class PageAllocator {
 public:
  PageAllocator() noexcept = default;
  ~PageAllocator() noexcept { giveAll(); }
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;

  // The bytes of all pages, heads and numbers.
  size_t memoryBytes() const noexcept { return memory_ + directory_.memoryBytes(); }

  // The page with this number; nullptr if there is none. (The head of a chunk has a number too, and
  // the size of a page, so any number is safe to read.)
  void* at(size_t number) const noexcept { return directory_.at(number); }

  // The number of a page of this allocator.
  size_t numberOf(void* page) const noexcept {
    for (size_t i = 0; i < kHeapPages; ++i) {
      if (directory_.at(i) == page) return i;
    }
    return chunkOf(page)->number + offsetOf(page) / kPageBytes;
  }

  // The page of this allocator that contains the address `place`.
  void* pageAround(const void* place) const noexcept {
    const auto address = reinterpret_cast<uintptr_t>(place);
    for (size_t i = 0; i < kHeapPages; ++i) {
      void* page = directory_.at(i);
      if (page != nullptr && address - reinterpret_cast<uintptr_t>(page) < kPageBytes) return page;
    }
    return reinterpret_cast<void*>(address - address % kPageBytes);
  }

  // A page of zeros, aligned to 64 bytes. nullptr if there is no memory; then nothing has changed.
  void* take() noexcept {
    for (size_t i = 0; i < kHeapPages; ++i) {
      if (directory_.at(i) == nullptr) return takeFromHeap(i);
    }
    const bool hasRoom = first_ != nullptr && first_->room > 0;
    return hasRoom || addChunk() ? takeFrom(first_) : nullptr;
  }

  // Frees a page of this allocator.
  void give(void* page) noexcept {
    const size_t number = numberOf(page);
    directory_.set(number, nullptr);
    if (number < kHeapPages) return giveToHeap(page);
    giveTo(chunkOf(page), page);
  }

  void giveAll() noexcept {
    for (size_t i = 0; i < kHeapPages; ++i) {
      if (directory_.at(i) != nullptr) give(directory_.at(i));
    }
    while (first_ != nullptr) remove(first_);
  }

 private:
  static constexpr unsigned kHeapPages = 8;
  static constexpr unsigned kChunkPages = Memory::kChunkBytes / kPageBytes - 1;

  // A chunk has a range of numbers: its head has the first, its pages the others, in their order.
  using Numbers = PageDirectory<kHeapPages, kChunkPages + 1>;

  struct Chunk {
    Chunk* previous;
    Chunk* next;
    // Of the head; those of the pages follow.
    size_t number;
    // The number of free pages.
    unsigned room;
    // The indices of the free pages; the last one is taken first. (A list through the free pages
    // themselves would need their memory.)
    uint8_t free[kChunkPages];
  };

  static_assert(Memory::kChunkBytes % kPageBytes == 0 && kPageBytes % 64 == 0, "pages are aligned");
  static_assert(kChunkPages <= UINT8_MAX, "a byte holds the index of every page");
  static_assert(sizeof(Chunk) <= kPageBytes, "the head fits the place of one page");

  static unsigned char* pageOf(Chunk* chunk, size_t number) noexcept {
    return reinterpret_cast<unsigned char*>(chunk) + number * kPageBytes;
  }
  static Chunk* chunkOf(void* page) noexcept {
    return reinterpret_cast<Chunk*>(static_cast<unsigned char*>(page) - offsetOf(page));
  }
  static size_t offsetOf(void* page) noexcept {
    return reinterpret_cast<uintptr_t>(page) % Memory::kChunkBytes;
  }

  void* takeFromHeap(size_t number) noexcept {
    void* page = ::operator new (kPageBytes, std::align_val_t{64}, std::nothrow);
    if (page == nullptr) return nullptr;
    directory_.set(number, page);
    memory_ += kPageBytes;
    return std::memset(page, 0, kPageBytes);
  }

  void giveToHeap(void* page) noexcept {
    ::operator delete (page, std::align_val_t{64});
    memory_ -= kPageBytes;
  }

  void* takeFrom(Chunk* chunk) noexcept {
    const size_t nth = chunk->free[chunk->room - 1];
    void* page = pageOf(chunk, nth);
    if (!Memory::provide(page, kPageBytes)) {
      if (chunk->room == kChunkPages) remove(chunk);
      return nullptr;
    }
    memory_ += kPageBytes;
    directory_.set(chunk->number + nth, page);
    if (--chunk->room == 0) {
      unlink(chunk);
      linkLast(chunk);
      Memory::allowHugePage(chunk, true);
    }
    return page;
  }

  void giveTo(Chunk* chunk, void* page) noexcept {
    memory_ -= kPageBytes;
    chunk->free[chunk->room++] = static_cast<uint8_t>(offsetOf(page) / kPageBytes);
    if (chunk->room == kChunkPages) return remove(chunk);
    if (chunk->room == 1) {
      unlink(chunk);
      linkFirst(chunk);
      // With a huge page the system would soon back the freed pages with memory again.
      Memory::allowHugePage(chunk, false);
    }
    Memory::discard(page, kPageBytes);
  }

  bool addChunk() noexcept {
    void* memory = Memory::reserve();
    if (memory == nullptr) return false;
    Memory::allowHugePage(memory, false);
    size_t number;
    if (!Memory::provide(memory, kPageBytes) || !directory_.takeRange(memory, number)) {
      Memory::release(memory);
      return false;
    }
    auto* chunk = new (memory) Chunk;
    chunk->number = number;
    chunk->room = kChunkPages;
    for (unsigned i = 0; i < kChunkPages; ++i) {
      chunk->free[i] = static_cast<uint8_t>(kChunkPages - i);
    }
    memory_ += sizeof(Chunk);
    linkFirst(chunk);
    return true;
  }

  // Returns a chunk to the system with all of its pages.
  void remove(Chunk* chunk) noexcept {
    unlink(chunk);
    memory_ -= sizeof(Chunk) + (kChunkPages - chunk->room) * kPageBytes;
    directory_.giveRange(chunk->number);
    Memory::release(chunk);
  }

  void linkFirst(Chunk* chunk) noexcept {
    chunk->previous = nullptr;
    chunk->next = first_;
    (first_ == nullptr ? last_ : first_->previous) = chunk;
    first_ = chunk;
  }

  void linkLast(Chunk* chunk) noexcept {
    chunk->previous = last_;
    chunk->next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = chunk;
    last_ = chunk;
  }

  void unlink(Chunk* chunk) noexcept {
    (chunk->previous == nullptr ? first_ : chunk->previous->next) = chunk->next;
    (chunk->next == nullptr ? last_ : chunk->next->previous) = chunk->previous;
  }

  Chunk* first_ = nullptr;
  Chunk* last_ = nullptr;
  size_t memory_ = 0;
  Numbers directory_;
};

}  // namespace relay_limiter

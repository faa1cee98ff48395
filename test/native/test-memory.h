// Memory that runs out when a test says so, and that AddressSanitizer watches: the system's chunks,
// and the nothrow `new`, which is all that native/ allocates by and nothing else here is. For
// programs of one translation unit.
#pragma once

#include <sanitizer/asan_interface.h>

#include <cstddef>
#include <new>
#include <set>

#include "../../native/memory/system-memory.h"

// How many of the allocations that may fail succeed before one does; and whether all behind it fail
// as well.
constexpr unsigned kNoneFails = ~0u;
inline unsigned allocationsLeft = kNoneFails;
inline bool allOfThemFail = false;

inline bool failsNow() {
  if (allocationsLeft == kNoneFails) return false;
  if (allocationsLeft > 0) return --allocationsLeft, false;
  if (!allOfThemFail) allocationsLeft = kNoneFails;
  return true;
}

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return failsNow() ? nullptr : ::operator new(size);
}

void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return failsNow() ? nullptr : ::operator new[](size);
}

void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return failsNow() ? nullptr : ::operator new(size, alignment);
}

struct TestMemory : relay_limiter::SystemMemory {
  // Bytes of addresses.
  static inline size_t reserved = 0;
  // Chunks that may become huge pages.
  static inline std::set<void*> huge;

  static void* reserve() noexcept {
    void* chunk = failsNow() ? nullptr : SystemMemory::reserve();
    if (chunk == nullptr) return nullptr;
    reserved += kChunkBytes;
    ASAN_POISON_MEMORY_REGION(chunk, kChunkBytes);
    return chunk;
  }

  static void release(void* chunk) noexcept {
    ASAN_UNPOISON_MEMORY_REGION(chunk, kChunkBytes);
    SystemMemory::release(chunk);
    reserved -= kChunkBytes;
    huge.erase(chunk);
  }

  static void allowHugePage(void* chunk, bool allow) noexcept {
    SystemMemory::allowHugePage(chunk, allow);
    if (allow) {
      huge.insert(chunk);
    } else {
      huge.erase(chunk);
    }
  }

  static bool provide(void* part, size_t bytes) noexcept {
    if (failsNow()) return false;
    ASAN_UNPOISON_MEMORY_REGION(part, bytes);
    return SystemMemory::provide(part, bytes);
  }

  static void discard(void* part, size_t bytes) noexcept {
    SystemMemory::discard(part, bytes);
    ASAN_POISON_MEMORY_REGION(part, bytes);
  }
};

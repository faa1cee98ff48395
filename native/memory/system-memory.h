// SystemMemory gets memory from the operating system in chunks of 2 MiB, aligned to 2 MiB. A part
// that is provided reads as zeros; a part that is discarded uses no memory until it is provided
// again. It has no state.
//
//   Linux, macOS, BSD   mmap; the system adds memory when it is first touched
//   Windows             VirtualAlloc
//   elsewhere           aligned `new`; memory is returned only with its whole chunk
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#if defined(_WIN32)
#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#elif (defined(__unix__) || defined(__APPLE__)) && !defined(RELAY_LIMITER_NO_MMAP)
// RELAY_LIMITER_NO_MMAP: tests of the third way define it.
#include <sys/mman.h>
#include <unistd.h>
#define RELAY_LIMITER_MMAP
#endif

namespace relay_limiter {

struct SystemMemory {
  static constexpr size_t kChunkBytes = size_t{2} << 20;

  // Reserves addresses for a chunk; nullptr if there are none.
  static void* reserve() noexcept;
  static void release(void* chunk) noexcept;

  // Backs a part of a chunk with memory that reads as zeros; false if there is none. A part is
  // aligned to its size.
  static bool provide(void* part, size_t bytes) noexcept;
  // Returns the memory of a provided part to the system.
  static void discard(void* part, size_t bytes) noexcept;

  // Allows or forbids the system to back a chunk with one huge page.
  static void allowHugePage(void* chunk, bool allow) noexcept;
};

// The first aligned chunk in a range of two chunks.
inline void* alignedIn(void* range) noexcept {
  auto* bytes = static_cast<unsigned char*>(range);
  const auto behind = reinterpret_cast<uintptr_t>(range) % SystemMemory::kChunkBytes;
  return behind == 0 ? bytes : bytes + (SystemMemory::kChunkBytes - behind);
}

#if defined(RELAY_LIMITER_MMAP)

inline void* SystemMemory::reserve() noexcept {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANON;
  void* mapped = mmap(nullptr, 2 * kChunkBytes, PROT_READ | PROT_WRITE, kFlags, /*fd=*/-1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* range = static_cast<unsigned char*>(mapped);
  auto* chunk = static_cast<unsigned char*>(alignedIn(range));
  const auto before = static_cast<size_t>(chunk - range);
  if (before > 0) munmap(range, before);
  munmap(chunk + kChunkBytes, kChunkBytes - before);
  return chunk;
}

inline void SystemMemory::release(void* chunk) noexcept { munmap(chunk, kChunkBytes); }

// The mapping is readable, writable and zero already.
inline bool SystemMemory::provide(void*, size_t) noexcept { return true; }

inline void SystemMemory::discard(void* part, size_t bytes) noexcept {
  // The system rounds up to its own page size: if that is larger, the part cannot be returned.
  const bool whole = bytes % static_cast<size_t>(sysconf(_SC_PAGESIZE)) == 0;
#if defined(__linux__)
  if (whole && madvise(part, bytes, MADV_DONTNEED) == 0) return;
#endif
  std::memset(part, 0, bytes);
#if defined(MADV_FREE) && !defined(__linux__)
  // The part reads as zeros before and after the system takes its memory.
  if (whole) madvise(part, bytes, MADV_FREE);
#endif
  static_cast<void>(whole);
}

#elif defined(_WIN32)

inline void* SystemMemory::reserve() noexcept {
  // Windows cannot release a part of a reservation. So this releases all of it and reserves the
  // aligned address again, which fails if another thread has taken it meanwhile.
  for (int attempt = 0; attempt < 16; ++attempt) {
    void* range = VirtualAlloc(nullptr, 2 * kChunkBytes, MEM_RESERVE, PAGE_READWRITE);
    if (range == nullptr) return nullptr;
    VirtualFree(range, 0, MEM_RELEASE);
    void* chunk = VirtualAlloc(alignedIn(range), kChunkBytes, MEM_RESERVE, PAGE_READWRITE);
    if (chunk != nullptr) return chunk;
  }
  return nullptr;
}

inline void SystemMemory::release(void* chunk) noexcept { VirtualFree(chunk, 0, MEM_RELEASE); }

inline bool SystemMemory::provide(void* part, size_t bytes) noexcept {
  return VirtualAlloc(part, bytes, MEM_COMMIT, PAGE_READWRITE) != nullptr;
}

inline void SystemMemory::discard(void* part, size_t bytes) noexcept {
  VirtualFree(part, bytes, MEM_DECOMMIT);
}

#else

inline void* SystemMemory::reserve() noexcept {
  return ::operator new (kChunkBytes, std::align_val_t{kChunkBytes}, std::nothrow);
}

inline void SystemMemory::release(void* chunk) noexcept {
  ::operator delete (chunk, std::align_val_t{kChunkBytes});
}

inline bool SystemMemory::provide(void* part, size_t bytes) noexcept {
  std::memset(part, 0, bytes);
  return true;
}

inline void SystemMemory::discard(void*, size_t) noexcept {}

#endif

inline void SystemMemory::allowHugePage(void* chunk, bool allow) noexcept {
#if defined(MADV_HUGEPAGE)
  madvise(chunk, kChunkBytes, allow ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#else
  static_cast<void>(chunk);
  static_cast<void>(allow);
#endif
}

}  // namespace relay_limiter

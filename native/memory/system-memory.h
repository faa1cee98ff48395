// System memory: the door to the system's own memory, in chunks of 2 MiB that are aligned to 2 MiB.
// What is provided reads as zeros; what is discarded takes no memory until it is provided again. It
// knows neither who asks nor what for, and keeps nothing.
//
//   Linux, macOS, BSD   mmap; memory comes when it is touched
//   Windows             VirtualAlloc
//   elsewhere           aligned `new`; nothing is given back before the whole chunk is
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
// RELAY_LIMITER_NO_MMAP is for tests of the way without.
#include <sys/mman.h>
#include <unistd.h>
#define RELAY_LIMITER_MMAP
#endif

namespace relay_limiter {

struct SystemMemory {
  static constexpr size_t kChunkBytes = size_t{2} << 20;

  // Addresses for a chunk; nullptr where there are none.
  static void* reserve() noexcept;
  static void release(void* chunk) noexcept;

  // Makes a part of a chunk memory of zeros; false where there is none. Parts are aligned to their
  // size.
  static bool provide(void* part, size_t bytes) noexcept;
  // Gives back the memory of a part that was provided.
  static void discard(void* part, size_t bytes) noexcept;

  // Allows or forbids the system to put one huge page where a chunk is.
  static void allowHugePage(void* chunk, bool allow) noexcept;
};

// Where the first aligned chunk begins in a range of two.
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

// Both are so already.
inline bool SystemMemory::provide(void*, size_t) noexcept { return true; }

inline void SystemMemory::discard(void* part, size_t bytes) noexcept {
  // The system rounds up to pages of its own, which may be larger: then it must not be asked.
  const bool whole = bytes % static_cast<size_t>(sysconf(_SC_PAGESIZE)) == 0;
#if defined(__linux__)
  if (whole && madvise(part, bytes, MADV_DONTNEED) == 0) return;
#endif
  std::memset(part, 0, bytes);
#if defined(MADV_FREE) && !defined(__linux__)
  // It stays zero, or becomes it.
  if (whole) madvise(part, bytes, MADV_FREE);
#endif
  static_cast<void>(whole);
}

#elif defined(_WIN32)

inline void* SystemMemory::reserve() noexcept {
  // A part of a reservation cannot be kept alone. So its address is asked for again, which fails if
  // another thread was quicker.
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

// `new` and `delete` on top of the C library's allocator, for Linux only. Those of the standard
// library link its exceptions, which need symbols that only a recent glibc has and musl never has.
// With these the addon loads on any C library of the last ten years. On other systems the standard
// library is part of the system.

#include <cstdlib>
#include <new>

namespace {

void* allocate(size_t bytes) noexcept { return std::malloc(bytes == 0 ? 1 : bytes); }

void* allocate(size_t bytes, std::align_val_t alignment) noexcept {
  const auto unit = static_cast<size_t>(alignment);
  return std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
}

// The addon is built without exceptions. Code that can handle missing memory uses std::nothrow.
void* checked(void* memory) noexcept {
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// The standard library's definition would link its `new`, too.
const std::nothrow_t std::nothrow{};

using std::align_val_t;
using std::nothrow_t;

void* operator new(size_t n) { return checked(allocate(n)); }
void* operator new[](size_t n) { return checked(allocate(n)); }
void* operator new(size_t n, align_val_t a) { return checked(allocate(n, a)); }
void* operator new[](size_t n, align_val_t a) { return checked(allocate(n, a)); }

void* operator new(size_t n, const nothrow_t&) noexcept { return allocate(n); }
void* operator new[](size_t n, const nothrow_t&) noexcept { return allocate(n); }
void* operator new(size_t n, align_val_t a, const nothrow_t&) noexcept { return allocate(n, a); }
void* operator new[](size_t n, align_val_t a, const nothrow_t&) noexcept { return allocate(n, a); }

void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, align_val_t) noexcept { std::free(p); }

// std::vector calls this if it would become longer than memory. No vector here does, but a compiler
// cannot always prove that, and the standard library's own definition links its exceptions.
#ifdef __GLIBCXX__
namespace std {
void __throw_length_error(const char*) { abort(); }
}  // namespace std
#endif

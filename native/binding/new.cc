// C++'s `new` and `delete`, made of the C library's allocation, and what else would throw. The
// standard library's own bring all of its exceptions along, and with them symbols that only a
// recent glibc has, and musl never. With these the addon loads wherever there is a C library of the
// last ten years. Of Linux only: elsewhere the standard library comes with the system.

#include <cstdlib>
#include <new>

namespace {

void* allocate(size_t bytes) noexcept { return std::malloc(bytes == 0 ? 1 : bytes); }

void* allocate(size_t bytes, std::align_val_t alignment) noexcept {
  const auto unit = static_cast<size_t>(alignment);
  return std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
}

// Built without exceptions: where no memory is an answer, `new` is asked with std::nothrow.
void* orAbort(void* memory) noexcept {
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// Or it would bring the rest of its kind along.
const std::nothrow_t std::nothrow{};

using std::align_val_t;
using std::nothrow_t;

void* operator new(size_t n) { return orAbort(allocate(n)); }
void* operator new[](size_t n) { return orAbort(allocate(n)); }
void* operator new(size_t n, align_val_t a) { return orAbort(allocate(n, a)); }
void* operator new[](size_t n, align_val_t a) { return orAbort(allocate(n, a)); }

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

// What std::vector calls where it would be longer than memory is. None of ours comes near, but
// whether a compiler sees that differs from class to class, and the library's own brings exceptions
// along as well.
#ifdef __GLIBCXX__
namespace std {
void __throw_length_error(const char*) { abort(); }
}  // namespace std
#endif

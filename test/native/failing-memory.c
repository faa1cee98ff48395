// A library to preload into Node. It lets memory allocations fail, but only those of the addon. A
// test controls it through access(), which Node's fs.accessSync() calls:
//
//   access("/failing-memory/N")     reports no such file. The addon's next N allocations succeed,
//   and
//                                   all later ones fail. If N is negative, none fails.
//   access("/failing-memory/hit")   succeeds if an allocation has failed since then
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char kPrefix[] = "/failing-memory/";
// How many allocations still succeed; negative: all of them.
static long left = -1;
static int hit = 0;

#define REAL(function)               \
  static __typeof__(&function) real; \
  if (real == NULL) real = (__typeof__(&function))dlsym(RTLD_NEXT, #function)

static int isInAddon(void* caller) {
  Dl_info info;
  return dladdr(caller, &info) != 0 && strstr(info.dli_fname, "relay_limiter.node") != NULL;
}

static int fails(void* caller) {
  if (left < 0 || !isInAddon(caller)) return 0;
  if (left > 0) {
    --left;
    return 0;
  }
  hit = 1;
  errno = ENOMEM;
  return 1;
}

int access(const char* path, int mode) {
  REAL(access);
  if (strncmp(path, kPrefix, sizeof kPrefix - 1) != 0) return real(path, mode);
  const char* command = path + sizeof kPrefix - 1;
  if (strcmp(command, "hit") == 0 && hit) return 0;
  if (strcmp(command, "hit") != 0) {
    left = atol(command);
    hit = 0;
  }
  errno = ENOENT;
  return -1;
}

void* malloc(size_t bytes) {
  REAL(malloc);
  return fails(__builtin_return_address(0)) ? NULL : real(bytes);
}

void* realloc(void* memory, size_t bytes) {
  REAL(realloc);
  return fails(__builtin_return_address(0)) ? NULL : real(memory, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) {
  REAL(aligned_alloc);
  return fails(__builtin_return_address(0)) ? NULL : real(alignment, bytes);
}

void* mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
  REAL(mmap);
  return fails(__builtin_return_address(0)) ? MAP_FAILED
                                            : real(at, bytes, protection, flags, file, offset);
}

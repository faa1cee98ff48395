// SharedFile for Linux, macOS and BSD; see file.h.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/syscall.h>
#if !defined(F_OFD_GETLK)
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#endif
#endif

namespace relay_limiter {

namespace posix {

// The functions of these names in a recent glibc are not in an older one. On Linux with 64 bits the
// C library's `struct stat` is the kernel's.
#if defined(__linux__) && defined(SYS_fstat) && defined(SYS_newfstatat)
inline bool statusOf(int file, struct stat& status) noexcept {
  return syscall(SYS_fstat, file, &status) == 0;
}

inline bool statusOfLink(const char* path, struct stat& status) noexcept {
  return syscall(SYS_newfstatat, AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}
#elif defined(__linux__) && UINTPTR_MAX == UINT32_MAX
// Systems with 32 bits have no shared files.
inline bool statusOf(int, struct stat&) noexcept { return false; }
inline bool statusOfLink(const char*, struct stat&) noexcept { return false; }
#else
inline bool statusOf(int file, struct stat& status) noexcept { return fstat(file, &status) == 0; }

inline bool statusOfLink(const char* path, struct stat& status) noexcept {
  return lstat(path, &status) == 0;
}
#endif

// Calls allocate(offset, bytes) for all pieces of a part, and returns 0 or the number of an error.
//
// Before Linux 6.11 a signal undoes the whole piece (EINTR). So after a signal the pieces are
// smaller: then a process with a timer that fires a thousand times per second gets on as well.
template <class Allocate>
int inPieces(off_t offset, off_t bytes, Allocate&& allocate) noexcept {
  constexpr off_t kLeast = 4096;
  off_t most = off_t{64} << 20;
  while (bytes > 0) {
    const off_t piece = std::min(bytes, most);
    const int failure = allocate(offset, piece);
    if (failure == EINTR) {
      most = std::max(piece / 2, kLeast);
      continue;
    }
    if (failure != 0) return failure;
    offset += piece;
    bytes -= piece;
  }
  return 0;
}

// Allocates a part of a file. Returns 0 or the number of an error.
inline int allocate(int file, off_t offset, off_t bytes) noexcept {
#if defined(__APPLE__)
  fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, bytes, 0};
  if (fcntl(file, F_PREALLOCATE, &store) == -1) return errno;
  return ftruncate(file, offset + bytes) == -1 ? errno : 0;
#else
  return inPieces(offset, bytes,
                  [=](off_t at, off_t size) { return posix_fallocate(file, at, size); });
#endif
}

// Opens the folder of `path` with these flags; -1 if that fails.
inline int openFolder(const char* path, int flags) noexcept {
  const char* slash = std::strrchr(path, '/');
  if (slash == nullptr) return -1;
  const size_t length = slash == path ? 1 : static_cast<size_t>(slash - path);
  char* folder = static_cast<char*>(std::calloc(1, length + 1));
  if (folder == nullptr) return -1;
  std::memcpy(folder, path, length);
  const int file = ::open(folder, flags | O_CLOEXEC, 0600);
  std::free(folder);
  return file;
}

// A file without a path in the folder of `path`; -1 if the system has none. It is gone with its
// last descriptor, so a process that ends meanwhile leaves nothing behind.
inline int openWithoutPath(const char* path) noexcept {
#if defined(O_TMPFILE) && !defined(RELAY_LIMITER_NO_TMPFILE)
  return access("/proc/self/fd", X_OK) == 0 ? openFolder(path, O_TMPFILE | O_RDWR) : -1;
#else
  static_cast<void>(path);
  return -1;
#endif
}

// A file without a path is not there on all systems. Elsewhere a file has a temporary path while it
// is created, and its creator holds a lock of it (flock), which ends with the process. So who finds
// such a path without a lock knows that its creator was killed.

// Whether the file name `found` is one of temporaryPath() for the file name `name`.
inline bool isTemporary(const char* found, const char* name) noexcept {
  const size_t length = std::strlen(name);
  if (std::strncmp(found, name, length) != 0 || found[length] != '.') return false;
  const char* rest = found + length + 1;
  rest += std::strspn(rest, "0123456789");
  if (*rest != '-') return false;
  rest += 1 + std::strspn(rest + 1, "0123456789abcdef");
  return std::strcmp(rest, ".new") == 0;
}

// Removes the temporary paths that killed creators of the file at `path` have left.
inline void removeTemporaries(const char* path) noexcept {
  const char* slash = std::strrchr(path, '/');
  if (slash == nullptr) return;
  const auto length = static_cast<size_t>(slash + 1 - path);
  // The longest name of a file has 255 bytes.
  char* found = static_cast<char*>(std::malloc(length + 256));
  if (found == nullptr) return;
  std::memcpy(found, path, length);
  found[length] = '\0';
  if (DIR* folder = opendir(found)) {
    while (const dirent* entry = readdir(folder)) {
      if (!isTemporary(entry->d_name, slash + 1)) continue;
      std::snprintf(found + length, 256, "%s", entry->d_name);
      const int file = ::open(found, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
      if (file == -1) continue;
      if (flock(file, LOCK_EX | LOCK_NB) == 0) ::unlink(found);
      ::close(file);
    }
    closedir(folder);
  }
  std::free(found);
}

// Gives a file without a path this one. Whether that works; if not, errno says why.
inline bool linkFile(int file, const char* path) noexcept {
  char descriptor[64];
  std::snprintf(descriptor, sizeof descriptor, "/proc/self/fd/%d", file);
  return linkat(AT_FDCWD, descriptor, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0;
}

// Another path in the folder of `path`, to be freed; nullptr if there is no memory.
inline char* temporaryPath(const char* path) noexcept {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const size_t size = std::strlen(path) + 64;
  char* result = static_cast<char*>(std::malloc(size));
  if (result == nullptr) return nullptr;
  std::snprintf(result, size, "%s.%ld-%lx%lx.new", path, static_cast<long>(getpid()),
                static_cast<unsigned long>(now.tv_sec), static_cast<unsigned long>(now.tv_nsec));
  return result;
}

}  // namespace posix

inline bool SharedFile::create(const char* path, size_t bytes, size_t eager,
                               SharedError& error) noexcept {
  close();
  file_ = posix::openWithoutPath(path);
  if (file_ == -1) {
    posix::removeTemporaries(path);
    temporary_ = posix::temporaryPath(path);
    if (temporary_ == nullptr) return error.failForMemory("no memory for the path %s", path);
    file_ = ::open(temporary_, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
    // A process that removes temporary paths may be faster. Then link() fails.
    if (file_ != -1) lock();
  }
  if (file_ == -1) {
    const int cause = errno;
    std::free(temporary_);
    temporary_ = nullptr;
    return error.fail("the shared file %s cannot be created: %s", path, std::strerror(cause));
  }
  // The process may have a mask that takes the owner's rights.
  int failure = fchmod(file_, 0600) == -1 ? errno : 0;
#if defined(__APPLE__)
  eager = bytes;
#endif
  if (failure == 0) failure = posix::allocate(file_, 0, static_cast<off_t>(eager));
  if (failure == 0 && ftruncate(file_, static_cast<off_t>(bytes)) == -1) failure = errno;
  if (failure == 0) {
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (mapped != MAP_FAILED) {
      bytes_ = static_cast<unsigned char*>(mapped);
      size_ = bytes;
      return true;
    }
    failure = errno;
  }
  if (failure == ENOSPC || failure == ENOMEM || failure == EFBIG || failure == EDQUOT) {
    failForRoom(path, eager, error);
  } else {
    error.fail("the shared file %s cannot be created: %s", path, std::strerror(failure));
  }
  close();
  return false;
}

inline bool SharedFile::link(const char* path, SharedError& error) noexcept {
  const bool isTemporary = temporary_ != nullptr;
  const bool isLinked = isTemporary ? ::link(temporary_, path) == 0 : posix::linkFile(file_, path);
  const int failure = isLinked ? 0 : errno;
  if (isTemporary) {
    ::unlink(temporary_);
    std::free(temporary_);
    temporary_ = nullptr;
  }
  unlock();
  if (failure == 0) return true;
  // The temporary path may have been removed before it was locked.
  if (failure == EEXIST || (isTemporary && failure == ENOENT)) return false;
  return error.fail("the shared file %s cannot be created: %s", path, std::strerror(failure));
}

inline bool SharedFile::replace(const char* path, SharedError& error) noexcept {
  int failure = 0;
  if (temporary_ == nullptr) {
    temporary_ = posix::temporaryPath(path);
    if (temporary_ == nullptr) return error.failForMemory("no memory for the path %s", path);
    lock();
    if (!posix::linkFile(file_, temporary_)) failure = errno;
  }
  if (failure == 0 && std::rename(temporary_, path) == -1) failure = errno;
  if (failure != 0) ::unlink(temporary_);
  std::free(temporary_);
  temporary_ = nullptr;
  unlock();
  if (failure == 0) return true;
  // As in link().
  if (failure == ENOENT) return false;
  return error.fail("the shared file %s cannot be created: %s", path, std::strerror(failure));
}

inline SharedFile::Opened SharedFile::open(const char* path, SharedError& error) noexcept {
  close();
  const auto refuse = [&](const char* why) {
    error.fail("the shared file %s cannot be used: %s", path, why);
    close();
    return Opened::kUnsafe;
  };
  // Without O_NONBLOCK, opening a device or a pipe might wait.
  file_ = ::open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file_ == -1) {
    if (errno == ENOENT) return Opened::kAbsent;
    return refuse(errno == ELOOP ? "it is a symbolic link" : std::strerror(errno));
  }
  struct stat status;
  // While a file is created it may have two paths for an instant.
  for (int attempt = 0;; ++attempt) {
    if (!posix::statusOf(file_, status)) return refuse(std::strerror(errno));
    if (status.st_nlink <= 1 || attempt == 50) break;
    // Its creator may have been killed in that instant.
    if (attempt == 20) posix::removeTemporaries(path);
    const struct timespec pause = {0, 2000000};
    nanosleep(&pause, nullptr);
  }
  if (!S_ISREG(status.st_mode)) return refuse("it is no regular file");
  if (status.st_uid != geteuid()) return refuse("it belongs to another user");
  if ((status.st_mode & 07777) != 0600) return refuse("its mode is not 0600");
  if (status.st_nlink > 1) return refuse("it has several links");
  if (status.st_nlink == 0) {
    close();
    return Opened::kAbsent;
  }
  size_ = static_cast<size_t>(status.st_size);
  return Opened::kYes;
}

inline bool SharedFile::map(size_t least, SharedError& error) noexcept {
  if (size_ < least) return error.fail("it is too short");
  void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (mapped == MAP_FAILED) return error.fail("it cannot be mapped: %s", std::strerror(errno));
  bytes_ = static_cast<unsigned char*>(mapped);
  return true;
}

inline bool SharedFile::unlink(const char* path, SharedError& error) noexcept {
  if (::unlink(path) == 0) return true;
  if (errno == ENOENT) return false;
  return error.fail("the shared file %s cannot be removed: %s", path, std::strerror(errno));
}

inline bool SharedFile::isAt(const char* path) const noexcept {
  struct stat there;
  struct stat own;
  return posix::statusOfLink(path, there) && posix::statusOf(file_, own) &&
         there.st_dev == own.st_dev && there.st_ino == own.st_ino;
}

inline void SharedFile::close() noexcept {
  if (bytes_ != nullptr) munmap(bytes_, size_);
  if (file_ != -1) ::close(file_);
  if (temporary_ != nullptr) {
    ::unlink(temporary_);
    std::free(temporary_);
  }
  bytes_ = nullptr;
  size_ = 0;
  file_ = -1;
  temporary_ = nullptr;
}

inline bool SharedFile::allocate(size_t offset, size_t bytes) noexcept {
#if defined(__APPLE__)
  // Everything was allocated when the file was created.
  static_cast<void>(offset);
  static_cast<void>(bytes);
  return true;
#else
  return posix::allocate(file_, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0;
#endif
}

inline size_t SharedFile::allocatedBytes() const noexcept {
#if defined(__APPLE__)
  // Everything was allocated when the file was created.
  return size_;
#else
  struct stat status;
  if (!posix::statusOf(file_, status)) return 0;
  // In units of 512 bytes, whatever the file system's blocks are.
  return static_cast<size_t>(status.st_blocks) * 512;
#endif
}

inline FileId SharedFile::id() const noexcept {
  struct stat status;
  if (!posix::statusOf(file_, status)) return {};
  return {{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)}};
}

inline bool SharedFile::failForRoom(const char* path, size_t bytes,
                                    SharedError& error) const noexcept {
  struct statvfs system;
  const bool isKnown = fstatvfs(file_, &system) == 0;
  const uint64_t available = isKnown ? uint64_t{system.f_bavail} * system.f_frsize : 0;
  return error.failForMemory("the shared file %s needs %llu bytes, %llu are free", path,
                             static_cast<unsigned long long>(bytes),
                             static_cast<unsigned long long>(available));
}

inline bool SharedFile::lock() noexcept { return flock(file_, LOCK_EX | LOCK_NB) == 0; }
inline void SharedFile::unlock() noexcept { flock(file_, LOCK_UN); }

#if !defined(RELAY_LIMITER_NO_BYTE_LOCKS)

namespace posix {

// A lock may be far behind the end of the file.
inline struct flock lockOf(uint32_t byte, short type) noexcept {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(static_cast<uint64_t>(byte) + (uint64_t{1} << 40));
  lock.l_len = 1;
  return lock;
}

}  // namespace posix

inline bool SharedFile::lockByte(uint32_t byte) noexcept {
  struct flock lock = posix::lockOf(byte, F_WRLCK);
  return fcntl(file_, F_OFD_SETLK, &lock) == 0;
}

inline void SharedFile::unlockByte(uint32_t byte) noexcept {
  struct flock lock = posix::lockOf(byte, F_UNLCK);
  fcntl(file_, F_OFD_SETLK, &lock);
}

inline bool SharedFile::isByteLocked(uint32_t byte) const noexcept {
  struct flock lock = posix::lockOf(byte, F_WRLCK);
  return fcntl(file_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

#else

inline bool SharedFile::lockByte(uint32_t) noexcept { return true; }
inline void SharedFile::unlockByte(uint32_t) noexcept {}
inline bool SharedFile::isByteLocked(uint32_t) const noexcept { return true; }

#endif

}  // namespace relay_limiter

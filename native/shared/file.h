// SharedFile is a file in memory that several processes map: it is created whole and appears under
// its path in one step, or an existing file is opened only if it is safe to use. It also has locks
// of single bytes, which the system releases when the process ends. It knows nothing of the
// content.
//
//   Linux     mmap of a file, normally in /dev/shm; locks of the open file description
//   Windows   a section of a file; LockFileEx, whose locks belong to the handle
//   others    mmap of a file; no locks of bytes, because those of POSIX end when the process closes
//             any descriptor of the file. There a process id and the time when that process began
//             say whether it lives (process.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "error.h"
#include "process.h"

namespace relay_limiter {

struct FileId {
  uint64_t numbers[2] = {0, 0};

  bool operator==(const FileId& other) const noexcept {
    return numbers[0] == other.numbers[0] && numbers[1] == other.numbers[1];
  }
};

class SharedFile {
 public:
  enum class Opened { kYes, kAbsent, kUnsafe };

  SharedFile() noexcept = default;
  ~SharedFile() noexcept { close(); }
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  // Creates a file without a path, of `bytes` bytes of which the first `eager` are allocated, and
  // maps it. All bytes are zero. `path` says in which folder. False with an error if that fails.
  bool create(const char* path, size_t bytes, size_t eager, SharedError& error) noexcept;

  // Gives the created file its path. False if there is a file already, or if it must be created
  // again (`error` is unset), or with an error.
  bool link(const char* path, SharedError& error) noexcept;

  // Gives the created file the path of another file, which loses it in the same step (on Windows in
  // two steps). As link().
  bool replace(const char* path, SharedError& error) noexcept;

  // Opens the file at `path`, if it is regular, of this user, not accessible to others and has one
  // path.
  Opened open(const char* path, SharedError& error) noexcept;

  // Maps the opened file. False with an error, as if the file is shorter than `least` bytes.
  bool map(size_t least, SharedError& error) noexcept;

  // Removes the path of a file. False if there is no such file (`error` is unset), or with an
  // error.
  static bool unlink(const char* path, SharedError& error) noexcept;

  // Whether the path leads to this file.
  bool isAt(const char* path) const noexcept;

  // Exchanges the files of two objects.
  void swap(SharedFile& other) noexcept {
    std::swap(file_, other.file_);
#if defined(_WIN32)
    std::swap(section_, other.section_);
#endif
    std::swap(temporary_, other.temporary_);
    std::swap(bytes_, other.bytes_);
    std::swap(size_, other.size_);
  }

  void close() noexcept;

  unsigned char* bytes() const noexcept { return bytes_; }
  size_t size() const noexcept { return size_; }

  // Allocates a part of the mapped file before it is touched: writing to a part for which the
  // system has no room would end the process. Starts and ends at a multiple of 4096. False if there
  // is no room.
  bool allocate(size_t offset, size_t bytes) noexcept;

  // The bytes of the file that are allocated; all, if the system needs no allocation.
  size_t allocatedBytes() const noexcept;
  // Differs from that of other files, copies included, where parts of a file may be unallocated.
  FileId id() const noexcept;
  // Sets an error that says how many bytes are needed and free. False.
  bool failForRoom(const char* path, size_t bytes, SharedError& error) const noexcept;

  // Locks the file for this file object; false if another one has it. Leaves the bytes' locks
  // alone.
  bool lock() noexcept;
  void unlock() noexcept;

  // Locks the byte number `byte`, which need not exist, for this file object; false if another one
  // has it.
  bool lockByte(uint32_t byte) noexcept;
  void unlockByte(uint32_t byte) noexcept;
  // Whether another file object has locked the byte. True if the system does not say.
  bool isByteLocked(uint32_t byte) const noexcept;

 private:
#if defined(_WIN32)
  void* file_ = nullptr;
  void* section_ = nullptr;
  // The path of a created file before link(), in UTF-16.
  wchar_t* temporary_ = nullptr;
#else
  int file_ = -1;
  // Whether the created file has a temporary path, because the system has no files without one.
  char* temporary_ = nullptr;
#endif
  unsigned char* bytes_ = nullptr;
  size_t size_ = 0;
};

}  // namespace relay_limiter

#if defined(_WIN32)
#include "file-windows.h"
#else
#include "file-posix.h"
#endif

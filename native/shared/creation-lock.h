// CreationLock lets one process at a time create a file in a folder. Without it, processes that
// start together would each allocate a whole table, and all but one of these would be freed again.
//
// It only saves memory. If two processes create a file at the same time, the system still gives the
// path to only one of the files. The lock leaves nothing behind, and ends with its process.
#pragma once

#include "file.h"

namespace relay_limiter {

class CreationLock {
 public:
  CreationLock() noexcept = default;
  ~CreationLock() { unlock(); }
  CreationLock(const CreationLock&) = delete;
  CreationLock& operator=(const CreationLock&) = delete;

  // Locks the folder of `path`. False if another process has locked it. True as well if it cannot
  // be locked.
  bool tryLock(const char* path) noexcept;
  void unlock() noexcept;

 private:
#if defined(_WIN32)
  void* file_ = nullptr;
#else
  int folder_ = -1;
#endif
};

#if defined(_WIN32)

// Windows locks no folders: the lock is a file that nobody else may open, and that the system
// deletes when it is closed. Its name is that of a file which is being created.
inline bool CreationLock::tryLock(const char* path) noexcept {
  wchar_t* wide = windows::widePath(path, L".0-0.new");
  if (wide == nullptr) return true;
  const HANDLE file = CreateFileW(wide, GENERIC_WRITE, 0, nullptr, OPEN_ALWAYS,
                                  FILE_ATTRIBUTE_NORMAL | FILE_FLAG_DELETE_ON_CLOSE, nullptr);
  const DWORD failure = GetLastError();
  std::free(wide);
  if (file != INVALID_HANDLE_VALUE) file_ = file;
  // While it is being deleted, access to it is denied.
  return file != INVALID_HANDLE_VALUE ||
         (failure != ERROR_SHARING_VIOLATION && failure != ERROR_ACCESS_DENIED);
}

inline void CreationLock::unlock() noexcept {
  if (file_ != nullptr) CloseHandle(file_);
  file_ = nullptr;
}

#else

inline bool CreationLock::tryLock(const char* path) noexcept {
  if (folder_ == -1) folder_ = posix::openFolder(path, O_RDONLY);
  return folder_ == -1 || flock(folder_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

inline void CreationLock::unlock() noexcept {
  if (folder_ == -1) return;
  flock(folder_, LOCK_UN);
  ::close(folder_);
  folder_ = -1;
}

#endif

}  // namespace relay_limiter

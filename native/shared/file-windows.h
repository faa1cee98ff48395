// SharedFile for Windows; see file.h. The folder must be one that only its user may read.
#pragma once

#if !defined(NOMINMAX)
#define NOMINMAX
#endif
#if !defined(WIN32_LEAN_AND_MEAN)
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <cstdlib>
#include <cwchar>

namespace relay_limiter {

namespace windows {

// A path in UTF-16, to be freed; nullptr if there is no memory.
inline wchar_t* widePath(const char* path, const wchar_t* suffix = L"") noexcept {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path, -1, nullptr, 0);
  if (length <= 0) return nullptr;
  const size_t units = static_cast<size_t>(length) + std::wcslen(suffix);
  auto* wide = static_cast<wchar_t*>(std::calloc(units, sizeof(wchar_t)));
  if (wide == nullptr) return nullptr;
  MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, length);
  std::wcscat(wide, suffix);
  return wide;
}

inline HANDLE openFile(const wchar_t* path, DWORD creation) noexcept {
  // FILE_FLAG_OPEN_REPARSE_POINT opens a symbolic link itself, so that it can be refused.
  const HANDLE file = CreateFileW(path, GENERIC_READ | GENERIC_WRITE | DELETE,
                                  FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                                  creation, FILE_FLAG_OPEN_REPARSE_POINT, nullptr);
  return file == INVALID_HANDLE_VALUE ? nullptr : file;
}

inline bool isMissing(DWORD failure) noexcept {
  return failure == ERROR_FILE_NOT_FOUND || failure == ERROR_PATH_NOT_FOUND ||
         failure == ERROR_DELETE_PENDING;
}

// Locks lie behind the end of the file, where they do not hinder any reading.
inline OVERLAPPED placeOf(uint32_t byte) noexcept {
  OVERLAPPED place = {};
  place.Offset = byte;
  place.OffsetHigh = 1 << 8;
  return place;
}

inline bool lock(HANDLE file, uint32_t byte) noexcept {
  OVERLAPPED place = placeOf(byte);
  return LockFileEx(file, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &place) !=
         0;
}

inline void unlock(HANDLE file, uint32_t byte) noexcept {
  OVERLAPPED place = placeOf(byte);
  UnlockFileEx(file, 0, 1, 0, &place);
}

// The byte that SharedFile::lock() locks.
constexpr uint32_t kWhole = ~uint32_t{0};

// Removes the temporary paths that killed creators of the file at `path` have left: those without a
// lock.
inline void removeTemporaries(const char* path) noexcept {
  wchar_t* pattern = widePath(path, L".*-*.new");
  if (pattern == nullptr) return;
  const wchar_t* name = pattern;
  for (const wchar_t* at = pattern; *at != 0; ++at) {
    if (*at == L'\\' || *at == L'/') name = at + 1;
  }
  const auto folder = static_cast<size_t>(name - pattern);
  WIN32_FIND_DATAW entry;
  const HANDLE search = FindFirstFileW(pattern, &entry);
  constexpr size_t kMostUnits = sizeof entry.cFileName / sizeof(wchar_t);
  auto* found = static_cast<wchar_t*>(std::calloc(folder + kMostUnits, sizeof(wchar_t)));
  if (search != INVALID_HANDLE_VALUE && found != nullptr) {
    std::wmemcpy(found, pattern, folder);
    do {
      std::wmemcpy(found + folder, entry.cFileName, kMostUnits);
      const HANDLE file = openFile(found, OPEN_EXISTING);
      if (file == nullptr) continue;
      if (lock(file, kWhole)) DeleteFileW(found);
      CloseHandle(file);
    } while (FindNextFileW(search, &entry) != 0);
  }
  if (search != INVALID_HANDLE_VALUE) FindClose(search);
  std::free(found);
  std::free(pattern);
}

}  // namespace windows

inline bool SharedFile::create(const char* path, size_t bytes, size_t eager,
                               SharedError& error) noexcept {
  close();
  static_cast<void>(eager);
  windows::removeTemporaries(path);
  wchar_t suffix[64];
  std::swprintf(suffix, 64, L".%lu-%llx.new", GetCurrentProcessId(),
                static_cast<unsigned long long>(GetTickCount64()) << 20 |
                    (reinterpret_cast<uintptr_t>(this) >> 4 & 0xfffff));
  temporary_ = windows::widePath(path, suffix);
  if (temporary_ == nullptr) return error.failForMemory("no memory for the path %s", path);
  file_ = windows::openFile(temporary_, CREATE_NEW);
  if (file_ == nullptr) {
    const DWORD failure = GetLastError();
    std::free(temporary_);
    temporary_ = nullptr;
    return error.fail("the shared file %s cannot be created: error %lu", path, failure);
  }
  // A process that removes temporary paths may be faster. Then link() fails.
  lock();
  LARGE_INTEGER size;
  size.QuadPart = static_cast<LONGLONG>(bytes);
  DWORD failure = 0;
  if (SetFilePointerEx(file_, size, nullptr, FILE_BEGIN) == 0 || SetEndOfFile(file_) == 0) {
    failure = GetLastError();
  } else {
    size_ = bytes;
    SharedError unmapped;
    if (map(0, unmapped)) return true;
    failure = GetLastError();
  }
  close();
  if (failure == ERROR_DISK_FULL || failure == ERROR_NOT_ENOUGH_MEMORY ||
      failure == ERROR_HANDLE_DISK_FULL) {
    return failForRoom(path, bytes, error);
  }
  return error.fail("the shared file %s cannot be created: error %lu", path, failure);
}

inline bool SharedFile::link(const char* path, SharedError& error) noexcept {
  wchar_t* wide = windows::widePath(path);
  if (wide == nullptr) return error.failForMemory("no memory for the path %s", path);
  const bool moved = MoveFileExW(temporary_, wide, 0) != 0;
  const DWORD failure = GetLastError();
  std::free(wide);
  if (moved) {
    std::free(temporary_);
    temporary_ = nullptr;
    unlock();
    return true;
  }
  if (failure == ERROR_ALREADY_EXISTS || failure == ERROR_FILE_EXISTS ||
      windows::isMissing(failure)) {
    return false;
  }
  return error.fail("the shared file %s cannot be created: error %lu", path, failure);
}

// Windows does not put a file in the place of one that is open.
inline bool SharedFile::replace(const char* path, SharedError& error) noexcept {
  unlink(path, error);
  return !error && link(path, error);
}

inline SharedFile::Opened SharedFile::open(const char* path, SharedError& error) noexcept {
  close();
  const auto refuse = [&](const char* why) {
    error.fail("the shared file %s cannot be used: %s", path, why);
    close();
    return Opened::kUnsafe;
  };
  wchar_t* wide = windows::widePath(path);
  if (wide == nullptr) return refuse("there is no memory for its path");
  file_ = windows::openFile(wide, OPEN_EXISTING);
  const DWORD failure = GetLastError();
  std::free(wide);
  if (file_ == nullptr) {
    if (windows::isMissing(failure)) return Opened::kAbsent;
    return refuse(failure == ERROR_ACCESS_DENIED ? "it is no file, or access to it is denied"
                                                 : "it cannot be opened");
  }
  BY_HANDLE_FILE_INFORMATION information;
  if (GetFileInformationByHandle(file_, &information) == 0) return refuse("it cannot be read");
  const DWORD kOther = FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT |
                       FILE_ATTRIBUTE_DEVICE | FILE_ATTRIBUTE_SPARSE_FILE;
  if ((information.dwFileAttributes & kOther) != 0) return refuse("it is no regular file");
  if (information.nNumberOfLinks > 1) return refuse("it has several links");
  size_ = static_cast<size_t>(static_cast<uint64_t>(information.nFileSizeHigh) << 32 |
                              information.nFileSizeLow);
  return Opened::kYes;
}

inline bool SharedFile::map(size_t least, SharedError& error) noexcept {
  if (size_ < least || size_ == 0) return error.fail("it is too short");
  section_ = CreateFileMappingW(file_, nullptr, PAGE_READWRITE, 0, 0, nullptr);
  if (section_ != nullptr) {
    bytes_ = static_cast<unsigned char*>(MapViewOfFile(section_, FILE_MAP_ALL_ACCESS, 0, 0, size_));
  }
  return bytes_ != nullptr || error.fail("it cannot be mapped: error %lu", GetLastError());
}

inline bool SharedFile::unlink(const char* path, SharedError& error) noexcept {
  wchar_t* wide = windows::widePath(path);
  if (wide == nullptr) return error.failForMemory("no memory for the path %s", path);
  const bool removed = DeleteFileW(wide) != 0;
  const DWORD failure = GetLastError();
  std::free(wide);
  if (removed || windows::isMissing(failure)) return removed;
  return error.fail("the shared file %s cannot be removed: error %lu", path, failure);
}

inline bool SharedFile::isAt(const char* path) const noexcept {
  wchar_t* wide = windows::widePath(path);
  if (wide == nullptr) return true;
  const HANDLE there = CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                   nullptr, OPEN_EXISTING, FILE_FLAG_OPEN_REPARSE_POINT, nullptr);
  std::free(wide);
  if (there == INVALID_HANDLE_VALUE) return false;
  BY_HANDLE_FILE_INFORMATION a;
  BY_HANDLE_FILE_INFORMATION b;
  const bool known =
      GetFileInformationByHandle(there, &a) != 0 && GetFileInformationByHandle(file_, &b) != 0;
  CloseHandle(there);
  // Wine knows no volume of a file that was moved.
  const bool isSameVolume =
      a.dwVolumeSerialNumber == b.dwVolumeSerialNumber || b.dwVolumeSerialNumber == 0;
  return known && isSameVolume && a.nFileIndexHigh == b.nFileIndexHigh &&
         a.nFileIndexLow == b.nFileIndexLow;
}

inline void SharedFile::close() noexcept {
  if (bytes_ != nullptr) UnmapViewOfFile(bytes_);
  if (section_ != nullptr) CloseHandle(section_);
  if (file_ != nullptr) CloseHandle(file_);
  if (temporary_ != nullptr) {
    DeleteFileW(temporary_);
    std::free(temporary_);
  }
  bytes_ = nullptr;
  section_ = nullptr;
  file_ = nullptr;
  temporary_ = nullptr;
  size_ = 0;
}

// Everything was allocated when the file was created.
inline bool SharedFile::allocate(size_t, size_t) noexcept { return true; }

inline size_t SharedFile::allocatedBytes() const noexcept { return size_; }
inline FileId SharedFile::id() const noexcept { return {}; }

inline bool SharedFile::failForRoom(const char* path, size_t bytes,
                                    SharedError& error) const noexcept {
  ULARGE_INTEGER available = {};
  if (wchar_t* folder = windows::widePath(path)) {
    wchar_t* end = folder + std::wcslen(folder);
    while (end > folder && *end != L'\\' && *end != L'/') --end;
    if (end > folder) end[1] = 0;
    GetDiskFreeSpaceExW(folder, &available, nullptr, nullptr);
    std::free(folder);
  }
  return error.failForMemory("the shared file %s needs %llu bytes, %llu are free", path,
                             static_cast<unsigned long long>(bytes),
                             static_cast<unsigned long long>(available.QuadPart));
}

inline bool SharedFile::lock() noexcept { return windows::lock(file_, windows::kWhole); }
inline void SharedFile::unlock() noexcept { windows::unlock(file_, windows::kWhole); }

inline bool SharedFile::lockByte(uint32_t byte) noexcept { return windows::lock(file_, byte); }

inline void SharedFile::unlockByte(uint32_t byte) noexcept { windows::unlock(file_, byte); }

// There is no question without a lock. A limiter that wants this byte in the same instant takes
// another one.
inline bool SharedFile::isByteLocked(uint32_t byte) const noexcept {
  if (!windows::lock(file_, byte)) return true;
  windows::unlock(file_, byte);
  return false;
}

}  // namespace relay_limiter

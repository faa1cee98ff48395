// A file system for which there is little room.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <cstdio>
#include <string>

#include "children.h"
#include "require.h"

// Mounts a file system of so many bytes that only this process sees, and calls `use` there. Does
// nothing if the system does not allow that.
inline void onSmallDisk(size_t bytes, const std::function<void(const std::string& path)>& use) {
  const pid_t child = inChild([&] {
    const std::string options = "mode=700,size=" + std::to_string(bytes);
    const char* const folder = "/dev/shm";
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(2);
    mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
    if (mount("tmpfs", folder, "tmpfs", 0, options.c_str()) != 0) _exit(2);
    use(std::string(folder) + "/relay-limiter-test");
  });
  int status;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
    std::puts("shared files: not tested on a full disk, because mounting is not allowed");
    return;
  }
  require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a full disk ends no process");
}

// Fills the file system of a path. Returns the path of the file that does it.
inline std::string fillDisk(const std::string& path) {
  const std::string filler = path + "-filler";
  const int file = open(filler.c_str(), O_RDWR | O_CREAT, 0600);
  for (off_t at = 0; posix_fallocate(file, at, 4096) == 0;) at += 4096;
  close(file);
  return filler;
}

// Runs parts of a test in child processes.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <functional>

// Runs `use` in a child.
inline pid_t inChild(const std::function<void()>& use) {
  const pid_t child = fork();
  if (child != 0) return child;
  use();
  _exit(0);
}

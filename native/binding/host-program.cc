// Part of the Windows binary that MinGW builds: loads Node-API from the running program, whatever
// its file name is. (node-gyp provides the same for Microsoft's compiler.)

#include <windows.h>
// After windows.h, which it needs.
#include <delayimp.h>

namespace {

FARPROC WINAPI hostProgram(unsigned event, DelayLoadInfo*) {
  if (event != dliNotePreLoadLibrary) return nullptr;
  return reinterpret_cast<FARPROC>(GetModuleHandleW(nullptr));
}

}  // namespace

extern "C" {
PfnDliHook __pfnDliNotifyHook2 = hostProgram;
}

// Of the Windows binary that MinGW builds: Node-API is looked for in the running program, whatever
// its name. (node-gyp brings the same for Microsoft's compiler.)

#include <windows.h>
// Behind windows.h, which it needs.
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

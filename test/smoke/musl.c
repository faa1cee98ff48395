// Loads an addon as a program of musl's: every symbol that it needs must be there at once. Prints the
// version of Node-API that it asks for. What Node would give it is linked in as stubs.

#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char** argv) {
  void* addon = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (addon == NULL) {
    fprintf(stderr, "%s\n", argc > 1 ? dlerror() : "which addon?");
    return 1;
  }
  int (*version)(void) = (int (*)(void))dlsym(addon, "node_api_module_get_api_version_v1");
  if (version == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  printf("%d\n", version());
  return 0;
}

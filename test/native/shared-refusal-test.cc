// Systems with 32 bits have no shared tables: each call is refused with an error, and no file
// appears. .ci/run compiles it for arm.

#include "shared-rules.h"

namespace {

void requireRefused(bool isDone, const SharedError& error, const TestFile& file) {
  require(!isDone && error && std::strcmp(error.code, "ERR_LIMITER_SHARED") == 0 &&
              std::strstr(error.message, "64-bit addresses") != nullptr,
          "the error says what is missing");
  require(access(file.path(), F_OK) != 0, "no file appears");
}

}  // namespace

int main() {
  static_assert(sizeof(void*) < 8, "other systems have shared tables");
  TestFile file;
  {
    SharedRate limiter({10, 20, kInfinity, 1000});
    SharedError error;
    requireRefused(limiter.attach(file.path(), kSecret, error), error, file);
    require(!limiter.region().isAttached(), "the limiter has no file");
  }
  {
    SharedRules rules;
    SharedError error;
    requireRefused(tryAttach(rules, file.path(), error), error, file);
  }
  {
    SharedRegion region;
    SharedError error;
    const SharedFile::Opened opened = region.inspect(file.path(), error);
    requireRefused(opened != SharedFile::Opened::kUnsafe, error, file);
  }
  SharedError error;
  requireRefused(SharedRegion::remove(file.path(), error), error, file);
  std::puts("shared tables with 32 bits: refused");
}

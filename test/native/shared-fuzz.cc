// Shared tables under operations and damage that libFuzzer makes up. .ci/run builds and runs it.
//
// Until a file is damaged, its limiter must agree with a private one. After that, whatever it
// answers, no call may crash, hang or leave the file's memory, and after clear() it is a table
// again (the damage may be in a part of the file that nothing makes anew, such as its secret).

#include <vector>

#include "../../native/limiters/snapshot-walk.h"
#include "fuzz-input.h"
#include "shared-comparison.h"

namespace {

constexpr unsigned kKeys = 400;

const Key keyOf(unsigned number) {
  static const std::vector<std::unique_ptr<TestKey>> keys = [] {
    std::vector<std::unique_ptr<TestKey>> made;
    for (unsigned i = 0; i < kKeys; ++i) made.emplace_back(new TestKey(i));
    return made;
  }();
  return keys[number % kKeys]->key();
}

// The file of all runs of one class, and two limiters that are attached to it.
template <template <class> class Limiter>
class Table {
 public:
  using Shared = SharedLimiter<Limiter>;

  explicit Table(const typename Shared::Config& config) : one(config), two(config) {
    attach(one, file_);
    attach(two, file_);
    // Nothing is left behind if the fuzzer ends the process.
    unlink(file_.path());
    const SharedLayout& layout = one.layout();
    require(one.region().file().allocate(layout.namesAt(), layout.shards * layout.nameBytes),
            "there is room");
    content_.assign(one.region().bytes(), one.region().bytes() + layout.namesAt());
  }

  void reset() { std::memcpy(one.region().bytes(), content_.data(), content_.size()); }

 private:
  TestFile file_;
  std::vector<unsigned char> content_;

 public:
  Shared one;
  Shared two;
};

template <template <class> class Limiter>
class Run {
 public:
  using Shared = SharedLimiter<Limiter>;
  using Config = typename Shared::Config;

  Run(const Config& config, Input input)
      : table_(tableOf(config)), comparison_(config, table_.one), input_(input) {
    table_.reset();
  }

  void all() {
    for (unsigned n = 0; n < 2000 && !input_.empty(); ++n) one();
    useAll();
    if (!isDamaged_) {
      stateOf(table_.one);
      return;
    }
    comparison_.clear();
    for (unsigned i = 0; i < 50; ++i) comparison_.check(keyOf(i), i);
    useAll();
  }

 private:
  static Table<Limiter>& tableOf(const Config& config) {
    static Table<Limiter> table(config);
    return table;
  }

  void one() {
    const unsigned operation = input_.byte() % 14;
    switch (operation) {
      case 0:
        comparison_.pass(input_.byte() * input_.byte() / 500.0);
        break;
      case 1:
        comparison_.removePeer(key());
        break;
      case 2:
        comparison_.cleanup(input_.byte() % 40);
        break;
      case 3:
        comparison_.restore(key(), savedOffender());
        break;
      case 4:
        comparison_.read(key());
        break;
      case 5:
        comparison_.compareTotals();
        break;
      case 6:
        walk();
        break;
      case 7:
        if (input_.byte() % 8 == 0) comparison_.clear();
        break;
      case 8:
        fill(input_.twoBytes() % kKeys, input_.byte());
        break;
      case 9:
        damage();
        break;
      case 10:
        abandon();
        break;
      default:
        comparison_.check(key(), input_.byte());
    }
  }

  Key key() { return keyOf(input_.twoBytes()); }

  SavedOffender savedOffender() {
    const unsigned bits = input_.byte();
    SavedOffender saved{bits % 9 + 1, bits & 16 ? 0.0 : input_.byte() + 1.0,
                        bits & 32 ? kInfinity : input_.byte() / 2.0, SavedBucket::none()};
    if (bits & 64) saved.bucket = {input_.byte() / 100.0, input_.byte() / 1.0};
    return saved;
  }

  void fill(unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; ++i) comparison_.check(keyOf(first + i), i);
  }

  // Steps of a snapshot, with other calls in between only if the input is over.
  void walk() {
    SnapshotWalk<Shared> walk;
    while (!walk.isOver()) {
      require(walk.step(
                  table_.one, comparison_.now(), 50,
                  [](const Offender& offender, double) { return offender; },
                  [](const Secret*, const SavedDigest&) {}),
              "there is memory for a snapshot");
    }
  }

  void damage() {
    comparison_.stopComparing();
    isDamaged_ = true;
    // All but the names, as often the small parts as the large ones.
    const SharedLayout& layout = table_.one.layout();
    const size_t place = input_.twoBytes();
    const unsigned part = input_.byte();
    size_t at = 0;
    if (part % 4 == 0) {
      at = offsetof(SharedHeader, checksum) +
           place % (offsetof(SharedHeader, slots) + 128 - offsetof(SharedHeader, checksum));
    } else if (part % 4 == 1) {
      at = layout.headsAt() + place % layout.headBytes;
    } else {
      at = layout.pagesAt() + place * 8 % layout.pageBytes;
    }
    for (unsigned count = part >> 4; count > 0 && at < layout.namesAt(); --count, ++at) {
      table_.one.region().bytes()[at] = static_cast<unsigned char>(input_.byte());
    }
  }

  // As if a process had ended in a call: the next one repairs what it finds.
  void abandon() {
    Shared& other = table_.two;
    auto& lock = reinterpret_cast<ShardHead*>(other.region().headAt(0))->lock;
    const uint64_t word = uint64_t{kAttachSlots + 1} << 48 | 1;
    static_assert(sizeof lock >= sizeof word, "the lock begins with its word");
    std::memcpy(static_cast<void*>(&lock), &word, sizeof word);
  }

  void useAll() {
    comparison_.compareTotals();
    walk();
    fill(0, 60);
    for (unsigned i = 0; i < 20; ++i) comparison_.read(keyOf(i));
    comparison_.cleanup(5);
    const SavedDigest saved{keyOf(1).fingerprint, 1, {0.5, 1}};
    comparison_.stopComparing();
    table_.two.restorePeer(saved, comparison_.now());
  }

  Table<Limiter>& table_;
  Comparison<Limiter> comparison_;
  Input input_;
  bool isDamaged_ = false;
};

// Another limiter attaches to a file whose header is damaged.
void runAttachment(Input input) {
  TestFile file;
  {
    SharedRate limiter(kComparedRate);
    attach(limiter, file);
    SharedHeader& header = limiter.region().header();
    const bool isSealed = input.byte() % 2 == 0;
    const size_t bytes = isSealed ? sizeof(SharedHeader::Founding) : sizeof(SharedHeader);
    while (!input.empty()) {
      const size_t at = input.twoBytes() % bytes;
      for (unsigned count = input.byte() % 9; count > 0 && at + count <= bytes; --count) {
        limiter.region().bytes()[at + count - 1] = static_cast<unsigned char>(input.byte());
      }
    }
    // A checksum of someone who knows how it is made.
    if (isSealed) header.seal();
  }
  SharedError error;
  SharedRegion region;
  const bool isReadable = region.inspect(file.path(), error) == SharedFile::Opened::kYes;
  require(isReadable != bool{error}, "a file is readable, or there is an error");
  if (isReadable) region.eachAttached([](uint32_t, double) {});
  SharedError reason;
  SharedRate limiter(kComparedRate);
  if (!limiter.attach(file.path(), kSecret, reason)) {
    require(bool{reason}, "there is a reason");
    return;
  }
  SharedBucketCheck<SharedRate> check{1, 1000};
  Key key = keyOf(1);
  checkShared(limiter, key, check);
  SharedStatistics statistics;
  require(limiter.readStatistics(statistics), "there are statistics");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.byte() % 4) {
    case 0:
      Run<BasicRateLimiter>(kComparedRate, input).all();
      break;
    case 1:
      Run<BasicOrderbookLimiter>(kComparedOrderbook, input).all();
      break;
    case 2:
      Run<BasicDirectLimiter>(kComparedDirect, input).all();
      break;
    default:
      runAttachment(input);
  }
  return 0;
}

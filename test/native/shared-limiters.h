// What the tests of native/shared have in common: a file, keys, and the whole content of a shard in
// a form that can be compared.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "../../native/shared/checks.h"
#include "require.h"

using namespace relay_limiter;

using SharedRate = SharedLimiter<BasicRateLimiter>;
using SharedOrderbook = SharedLimiter<BasicOrderbookLimiter>;
using SharedDirect = SharedLimiter<BasicDirectLimiter>;

constexpr Secret kSecret{0x0123456789abcdef, 0xfedcba9876543210};

// A path in a folder of its own: while a process creates a table, it locks the folder. The file and
// the folder are removed at the end.
class TestFile {
 public:
  TestFile() {
    require(mkdtemp(folder_.data()) != nullptr, "there is a folder for tests");
    // The file alone decides what other users may do.
    chmod(folder_.c_str(), 0755);
    path_ = folder_ + "/table";
  }
  ~TestFile() {
    if (getpid() != owner_) return;
    unlink(path_.c_str());
    rmdir(folder_.c_str());
  }
  TestFile(const TestFile&) = delete;
  TestFile& operator=(const TestFile&) = delete;

  const char* path() const { return path_.c_str(); }

 private:
  std::string folder_ = std::string(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp") +
                        "/relay-limiter-test-XXXXXX";
  std::string path_;
  const pid_t owner_ = getpid();
};

template <class Limiter>
void attach(Limiter& limiter, const TestFile& file) {
  SharedError error;
  if (limiter.attach(file.path(), kSecret, error)) return;
  std::fprintf(stderr, "%s\n", error.message);
  require(false, "a limiter attaches");
}

inline std::u16string nameOf(unsigned number) {
  std::u16string name = u"peer-";
  for (const char digit : std::to_string(number)) name.push_back(static_cast<char16_t>(digit));
  // Some keys need two bytes for each code unit.
  if (number % 3 == 0) name.push_back(u'\u263a');
  return name;
}

class TestKey {
 public:
  explicit TestKey(unsigned number, const Secret& secret = kSecret)
      : name_(nameOf(number)),
        key_{fingerprintOf(name_.data(), name_.size(), secret), name_.data(), name_.size()} {}
  TestKey(const TestKey&) = delete;
  TestKey& operator=(const TestKey&) = delete;

  Key key() const { return key_; }

 private:
  const std::u16string name_;
  const Key key_;
};

// What a shard stores of a peer.
struct PeerState {
  bool hasBucket = false;
  double tokens = 0;
  double lastRefill = 0;
  bool hasTime = false;
  double at = 0;
  uint64_t violations = 0;
  bool isOffender = false;
  bool hasBan = false;
  double began = 0;
  std::u16string name;

  auto all() const {
    return std::tie(hasBucket, tokens, lastRefill, hasTime, at, violations, isOffender, hasBan,
                    began, name);
  }
  bool operator==(const PeerState& other) const { return all() == other.all(); }
};

using State = std::map<std::pair<uint64_t, uint64_t>, PeerState>;

inline std::pair<uint64_t, uint64_t> idOf(const Fingerprint& fingerprint) {
  return {fingerprint.low, fingerprint.high};
}

// Calls use(record) for all records of a table, which must be found by their fingerprints, and
// requires that their number is the table's size.
template <class Table, class Use>
void readTable(const Table& table, Use&& use) {
  size_t count = 0;
  const_cast<Table&>(table).forEach([&](const auto& record) {
    ++count;
    require(table.find(record.fingerprint) == &record, "every record is found");
    use(record);
  });
  require(count == table.size(), "a table counts its records");
}

template <template <class> class Limiter>
void readBuckets(Limiter<SharedStorage>& core, State& state) {
  if constexpr (!std::is_same_v<Limiter<SharedStorage>, BasicOrderbookLimiter<SharedStorage>>) {
    readTable(core.buckets(), [&](const Bucket& bucket) {
      PeerState& peer = state[idOf(bucket.fingerprint)];
      peer.hasBucket = true;
      peer.tokens = bucket.tokens;
      peer.lastRefill = bucket.lastRefill;
    });
  }
}

template <template <class> class Limiter>
void readTimes(Limiter<SharedStorage>& core, State& state) {
  if constexpr (!std::is_same_v<Limiter<SharedStorage>, BasicRateLimiter<SharedStorage>>) {
    readTable(core.allowedAt(), [&](const LastAllowed& last) {
      PeerState& peer = state[idOf(last.fingerprint)];
      peer.hasTime = true;
      peer.at = last.at;
    });
  }
}

// Reads a shard and requires that it is consistent.
template <template <class> class Limiter>
void readShard(Limiter<SharedStorage>& core, State& state) {
  readBuckets(core, state);
  readTimes(core, state);
  uint64_t violations = 0;
  size_t unnamed = 0;
  auto& offenders = core.offenders();
  uint64_t cursor = 0;
  offenders.table().sweepNamed(cursor, [&](const Offender& offender) {
    const StoredKey key = offenders.table().keyOf(offender);
    require(bool{key}, "a stored key is readable");
    std::u16string& name = state[idOf(offender.fingerprint)].name;
    key.read([&](const auto* text, size_t length) {
      for (size_t i = 0; i < length; ++i) name.push_back(static_cast<char16_t>(codeUnit(text[i])));
    });
    const Fingerprint own = fingerprintOf(name.data(), name.size(), kSecret);
    require(own == offender.fingerprint, "a stored key is the offender's");
  });
  size_t offenderCount = 0;
  for (auto& [id, peer] : state) {
    const Fingerprint fingerprint{id.first, id.second};
    if (const Offender* offender = offenders.table().find(fingerprint)) {
      ++offenderCount;
      peer.isOffender = true;
      peer.violations = offender->violations;
      violations += peer.violations;
      if (!offender->storedKey) ++unnamed;
    }
    if (const Ban* ban = offenders.bans().find(fingerprint)) {
      peer.hasBan = true;
      peer.began = ban->began;
    }
    require(!peer.hasBan || peer.isOffender, "a banned peer is an offender");
    require(!peer.isOffender || peer.hasBan || peer.violations > 0, "an offender has offended");
    require(!peer.isOffender || peer.hasBan || peer.hasBucket || peer.hasTime,
            "an offender is a peer");
  }
  require(offenders.size() == offenderCount, "there are no other offenders");
  require(offenders.table().totalViolations() == violations, "the violations are counted");
  require(offenders.table().unnamed() == unnamed, "the unnamed offenders are counted");
}

// The number of peers of a limiter, as it should be.
template <class Core>
size_t peersIn(const State& state) {
  size_t count = 0;
  for (const auto& [id, peer] : state) {
    if constexpr (std::is_same_v<Core, BasicRateLimiter<SharedStorage>>) {
      count += peer.hasBucket;
    } else if constexpr (std::is_same_v<Core, BasicOrderbookLimiter<SharedStorage>>) {
      count += peer.hasTime || peer.hasBan;
    } else {
      count += peer.hasBucket || peer.hasTime;
    }
  }
  return count;
}

// The content of all shards.
template <template <class> class Limiter>
State stateOf(SharedLimiter<Limiter>& limiter) {
  State all;
  for (uint32_t i = 0; i < limiter.layout().shards; ++i) {
    typename SharedLimiter<Limiter>::Visit visit(limiter, i, Patience::kLong);
    require(bool{visit}, "a shard can be locked");
    State state;
    readShard(limiter.core(), state);
    require(limiter.core().peers() == peersIn<Limiter<SharedStorage>>(state),
            "the peers are counted");
    all.insert(state.begin(), state.end());
  }
  return all;
}

// The table against its model under operations that libFuzzer makes up. .ci/run builds and runs it.
//
// The input names families of fingerprints and operations on their members. A family is as even as
// the hash makes fingerprints, or its members share first bits, home group, home slot or tag: what
// no secret makes likely, and what the table's rarer paths are for.

#include "fuzz-input.h"
#include "table-model.h"

namespace {

using relay_limiter::Fingerprint;

// Enough for two dozen pages, so for segments that split and merge; more would only cost speed.
constexpr unsigned kMostRecords = 12'000;
constexpr unsigned kMostOperations = 60'000;

// The finalizer of SplitMix64: spreads consecutive numbers evenly over all 64 bits.
uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

class Family {
 public:
  explicit Family(Input& input)
      : sharedBits_(input.byte() % 48), sharedFields_(input.byte()), seed_(input.byte()) {}

  // Whether so many records may share a page that the table refuses more.
  bool isSkewed() const { return sharedBits_ > 0; }

  Fingerprint member(unsigned number) const {
    const uint64_t common = mix(seed_ << 32 | 0xffffffff);
    const uint64_t first = mix(seed_ << 32 | number << 1);
    const uint64_t own = ~uint64_t{0} >> sharedBits_;
    uint64_t fields = 0;
    if (sharedFields_ & 1) fields |= 0xff;        // home group
    if (sharedFields_ & 2) fields |= 0xffff00;    // home slot
    if (sharedFields_ & 4) fields |= 0xff000000;  // tag
    // The tag 0 stands for an empty slot, and must not be stored as such.
    const uint64_t shared = sharedFields_ & 8 ? 0 : common;
    const uint64_t all = fields | ~own;
    const uint64_t low = (shared & all) | (first & ~all);
    // A seat knows a peer by this word: two that differ in the first must differ in it, and it must
    // not be that of an empty slot. No secret makes either likely.
    return {low, mix(low ^ mix(number)) | 1};
  }

 private:
  unsigned sharedBits_;
  unsigned sharedFields_;
  uint64_t seed_;
};

class Run {
 public:
  explicit Run(Input input) : input_(input), family_(input_) {}

  void all() {
    while (!input_.empty() && operations_ < kMostOperations) one();
    model_.compare();
    model_.clear();
    model_.compare();
  }

 private:
  void one() {
    switch (input_.byte() % 11) {
      case 0:
        family_ = Family(input_);
        break;
      case 1:
        insert(first(), 1);
        break;
      case 2:
      case 3:
        insert(first(), many());
        break;
      case 4:
        find(first(), many());
        break;
      case 5:
        erase(first(), 1);
        break;
      case 6:
        erase(first(), many());
        break;
      case 7:
        sweep(input_.byte() % 8 + 1, input_.byte() % 4 + 1);
        break;
      case 8:
        operations_ += static_cast<unsigned>(model_.size());
        model_.compare();
        break;
      case 9:
        replace(first(), many());
        break;
      default:
        // Rarer than the others, since it undoes what they built.
        if (input_.byte() % 8 != 0) break;
        model_.clear();
        holdsSkewed_ = false;
    }
    ++operations_;
  }

  // Coarse numbers, so that runs meet the members that others inserted.
  unsigned first() { return input_.byte() * 64; }
  unsigned many() { return (input_.byte() + 1) * 64; }

  void insert(unsigned first, unsigned count) {
    bool refused = false;
    for (unsigned i = 0; i < count && model_.size() < kMostRecords; ++i, ++operations_) {
      // Shared fields alone fill no page before others.
      holdsSkewed_ = holdsSkewed_ || family_.isSkewed();
      if (model_.insert(family_.member(first + i), mix(operations_))) continue;
      require(holdsSkewed_, "only fingerprints that share first bits are refused");
      refused = true;
    }
    model_.recall();
    if (refused) model_.compare();
  }

  void find(unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; ++i) model_.find(family_.member(first + i));
    operations_ += count;
  }

  void erase(unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; ++i) model_.erase(family_.member(first + i));
    model_.recall();
    operations_ += count;
    holdsSkewed_ = holdsSkewed_ && model_.size() > 0;
  }

  void replace(unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; ++i, ++operations_) {
      holdsSkewed_ = holdsSkewed_ || family_.isSkewed();
      model_.replaceOne(family_.member(first + i), mix(operations_));
    }
    model_.recall();
  }

  // A sweep need not come to its end before other operations do.
  void sweep(unsigned steps, uint64_t divisor) {
    while (steps-- > 0 && model_.sweepStep(divisor)) operations_ += 1000;
    operations_ += 1000;
    holdsSkewed_ = holdsSkewed_ && model_.size() > 0;
  }

  Input input_;
  Family family_;
  TableModel<32> model_;
  unsigned operations_ = 0;
  // Whether a skewed one came since the table was last empty.
  bool holdsSkewed_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Run(Input(data, size)).all();
  return 0;
}

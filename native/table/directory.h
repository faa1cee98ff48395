// Directory finds the segment of a fingerprint by the fingerprint's first bits: an array of 2^depth
// pointers to segments. A segment of a lower depth has several equal pointers. The array doubles
// before a segment as deep as the directory splits, and halves if no segment is as deep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace relay_limiter {

// Does not own the segments. It reads only their `depth` and span().
template <class SegmentOf>
class Directory {
 public:
  Directory() noexcept = default;
  ~Directory() noexcept { clear(); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // Whether there is no segment.
  bool isEmpty() const noexcept { return segments_ == nullptr; }

  size_t memoryBytes() const noexcept { return isEmpty() ? 0 : sizeof(SegmentOf*) << depth_; }

  // The segment of the fingerprints with the first word `low`. The directory must not be empty.
  SegmentOf* segmentOf(uint64_t low) const noexcept { return segments_[indexOf(low)]; }

  // Sets the only segment of an empty directory. False if there is no memory.
  bool start(SegmentOf* segment) noexcept {
    segments_ = new (std::nothrow) SegmentOf*[1];
    if (segments_ == nullptr) return false;
    segments_[0] = segment;
    depth_ = 0;
    deepest_ = 1;
    return true;
  }

  void clear() noexcept {
    delete[] segments_;
    segments_ = nullptr;
  }

  // Doubles the array if a split of the segment needs that. False if there is no memory, or if the
  // segment is too deep.
  bool prepareSplit(const SegmentOf& segment) noexcept {
    return segment.depth < kMostDepth && (segment.depth < depth_ || doubleArray());
  }

  // Makes both segments one bit deeper, and sets the pointers to the upper one. `low` is the first
  // word of a fingerprint of either. Call prepareSplit() before.
  void split(SegmentOf& lower, SegmentOf* upper, uint64_t low) noexcept {
    upper->depth = ++lower.depth;
    assign(upper, low | lower.span());
    if (lower.depth == depth_) deepest_ += 2;
  }

  // Reverses split(): afterwards there are no pointers to the upper segment.
  void merge(SegmentOf* lower, uint64_t low) noexcept {
    if (lower->depth == depth_) deepest_ -= 2;
    --lower->depth;
    assign(lower, low);
    if (deepest_ == 0) halveArray();
  }

 private:
  // The array has at most 2^28 pointers: enough for 10^12 records.
  static constexpr unsigned kMostDepth = 28;

  size_t indexOf(uint64_t low) const noexcept {
    // Two shifts, because a shift by 64 is undefined.
    return static_cast<size_t>(low >> 1 >> (63 - depth_));
  }

  // Sets all pointers to a segment; `low` is the first word of a fingerprint in it.
  void assign(SegmentOf* segment, uint64_t low) noexcept {
    const size_t entries = size_t{1} << (depth_ - segment->depth);
    const size_t first = indexOf(low) & ~(entries - 1);
    for (size_t i = 0; i < entries; ++i) segments_[first + i] = segment;
  }

  bool doubleArray() noexcept {
    const size_t entries = size_t{1} << depth_;
    auto** doubled = new (std::nothrow) SegmentOf*[entries * 2];
    if (doubled == nullptr) return false;
    for (size_t i = 0; i < entries * 2; ++i) doubled[i] = segments_[i / 2];
    replaceArray(doubled, depth_ + 1);
    deepest_ = 0;
    return true;
  }

  void halveArray() noexcept {
    const size_t entries = size_t{1} << (depth_ - 1);
    auto** halved = new (std::nothrow) SegmentOf*[entries];
    // An array that is larger than needed is correct as well.
    if (halved == nullptr) return;
    for (size_t i = 0; i < entries; ++i) halved[i] = segments_[i * 2];
    replaceArray(halved, depth_ - 1);
    deepest_ = 0;
    for (size_t i = 0; i < entries; ++i) deepest_ += segments_[i]->depth == depth_;
  }

  void replaceArray(SegmentOf** segments, unsigned depth) noexcept {
    delete[] segments_;
    segments_ = segments;
    depth_ = depth;
  }

  // nullptr if the directory is empty.
  SegmentOf** segments_ = nullptr;
  unsigned depth_ = 0;
  // The number of segments as deep as the directory. Without any the array can be halved.
  size_t deepest_ = 0;
};

}  // namespace relay_limiter

// Table: fingerprints to records, open addressing, any size, in bounded steps. It knows no limiter,
// no key, no Node, no clock and no global; one thread at a time may use it.
//
//   directory   one pointer for each value of the fingerprint's first bits
//   segment     some pages; the next bits of the fingerprint choose the page
//   page        a closed hash table of 480 records (page.h)
//
// A full segment gets one more page, and its records move on by at most one page each: the load
// stays between 0.77 and 0.9. A segment of 12 full pages splits in two of 6, and that moves
// nothing: the bit that chose between its upper and lower pages now chooses between two segments.
// Shrinking goes the same way back. So no operation touches more than one segment (192 KiB for
// records of 32 bytes) and the directory, whose doubling copies 8 bytes for some 4,000 records.
//
// Pointers to records hold until the next change of the table; seats (seat.h) are always safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "../memory/compiler.h"
#include "../memory/page-allocator.h"
#include "page.h"
#include "peer-slot.h"

namespace relay_limiter {

template <class Record, class Memory = SystemMemory>
class Table {
 public:
  Table() noexcept = default;
  ~Table() noexcept { clear(); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  size_t size() const noexcept { return size_; }
  size_t memoryBytes() const noexcept { return memory_ + pages_.memoryBytes(); }

  Record* find(const Fingerprint& fingerprint) const noexcept {
    return directory_ == nullptr
               ? nullptr
               : pageOf(*segmentOf(fingerprint.low), fingerprint)->find(fingerprint);
  }

  // A pointer to a record is one, of that peer or of another or of none, until a new epoch begins:
  // whenever records move or their pages go.
  uint64_t epoch() const noexcept { return epoch_; }

  // Where `record`, one of this table's, lies.
  PeerSlot slotOf(Record* record) const noexcept {
    const Fingerprint& fingerprint = record->fingerprint;
    PageOf* page = pageOf(*segmentOf(fingerprint.low), fingerprint);
    return PeerSlot::of(fingerprint,
                        PeerSlot::placeAt(pages_.numberOf(page), page->indexOf(record)));
  }

  // The record of a seat, if it still lies there; nullptr if not, and find() knows. Any three words
  // are safe to ask for, though a place with two zeros, which are nobody's, may be an empty slot.
  Record* at(const PeerSlot& seat) const noexcept {
    auto* page = static_cast<PageOf*>(pages_.at(seat.page()));
    if (page == nullptr) return nullptr;
    Record* record = page->at(seat.index());
    return seat.isOf(record->fingerprint) ? record : nullptr;
  }

  // Asks for the memory that find() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    if (directory_ != nullptr)
      pageOf(*segmentOf(fingerprint.low), fingerprint)->prepare(fingerprint);
  }

  // A record for a fingerprint that is not there yet, which is all that is written of it; nullptr
  // where there is no memory, and then nothing has changed that can be seen.
  Record* insert(const Fingerprint& fingerprint) noexcept {
    if (directory_ == nullptr && !start()) return nullptr;
    for (;;) {
      Segment& segment = *segmentOf(fingerprint.low);
      if (segment.used < segment.pages * kGrowAt) {
        Record* record = pageOf(segment, fingerprint)->place(fingerprint);
        if (record != nullptr) {
          ++segment.used;
          ++size_;
          return record;
        }
      }
      if (!grow(segment, fingerprint.low)) return nullptr;
    }
  }

  // `record` is one of this table's.
  void erase(Record* record) noexcept {
    const Fingerprint fingerprint = record->fingerprint;
    Segment& segment = *segmentOf(fingerprint.low);
    pageOf(segment, fingerprint)->erase(record);
    --segment.used;
    --size_;
    if (segment.used % kShrinkEvery == 0) shrink(&segment, fingerprint.low);
  }

  // Calls visit(Record&) for `most` records, each once, or for all where there are fewer; for none
  // after it has returned true. The records of the page of `fingerprint` come first, whose memory a
  // look-up has just read. Which records they are is random for anybody who does not know the
  // secret.
  template <class Visit>
  void sample(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    if (directory_ == nullptr) return;
    PageOf* const home = pageOf(*segmentOf(fingerprint.low), fingerprint);
    if (!home->sample(fingerprint, most, visit)) sampleOthers(home, fingerprint, most, visit);
  }

  // Erases `record` and inserts `fingerprint`, which is not there yet. Where both have the same
  // page, nothing moves and no memory is needed; else nullptr where there is none, and then nothing
  // has changed.
  Record* replace(Record* record, const Fingerprint& fingerprint) noexcept {
    const Fingerprint candidate = record->fingerprint;
    PageOf* const page = pageOf(*segmentOf(fingerprint.low), fingerprint);
    if (page == pageOf(*segmentOf(candidate.low), candidate)) {
      page->erase(record);
      return page->place(fingerprint);
    }
    if (insert(fingerprint) == nullptr) return nullptr;
    // Both may move records.
    erase(find(candidate));
    return find(fingerprint);
  }

  void clear() noexcept {
    if (directory_ == nullptr) return;
    ++epoch_;
    uint64_t at = 0;
    do {
      Segment* segment = segmentOf(at);
      at = endOf(*segment, at);
      release(segment);
    } while (at != 0);
    freeDirectory();
    pages_.giveAll();
    size_ = 0;
  }

  // Visits the records of the page at `cursor`, which starts at 0, and moves the cursor on; where
  // visit(Record&) returns true the record is erased. False once the last page was visited. Between
  // two calls the table may change: a record that was there throughout is visited, perhaps more
  // than once.
  template <class Visit>
  bool sweep(uint64_t& cursor, Visit&& visit) noexcept {
    if (directory_ == nullptr) return false;
    const uint64_t at = cursor;
    Segment* segment = segmentOf(at);
    const unsigned p = pageNumber({at, 0}, segment->depth, segment->pages);
    const unsigned erased = segment->page[p]->sweep(visit);
    segment->used -= erased;
    size_ -= erased;
    if (p + 1u < segment->pages) {
      cursor = beginOf(*segment, at, p + 1u);
      return true;
    }
    cursor = endOf(*segment, at);
    // Only now, once for all of its pages: each time it shrinks all records may move.
    while (shrink(segment, at)) segment = segmentOf(at);
    return cursor != 0;
  }

  // Visits every record once.
  template <class Visit>
  void forEach(Visit&& visit) noexcept {
    if (directory_ == nullptr) return;
    uint64_t at = 0;
    do {
      Segment& segment = *segmentOf(at);
      at = endOf(segment, at);
      visitPages(segment, [&](Record& record) {
        visit(record);
        return false;
      });
    } while (at != 0);
  }

 private:
  using PageOf = Page<Record>;

  // A segment of more than one has at least 6 pages, and splits in two at 12, hardly ever at more.
  // Fewer would be shorter steps, and more memory: with 4 to 8 pages 45 bytes a record, with 8 to
  // 16 41.5.
  static constexpr unsigned kSplitPages = 6;
  static constexpr unsigned kMostPages = 32;
  // Records a page, on average over its segment, above which the segment grows, and below which it
  // shrinks if it would still hold no more.
  static constexpr unsigned kGrowAt = PageOf::kCapacity * 9 / 10;
  static constexpr unsigned kShrinkAt = PageOf::kCapacity * 3 / 4;
  // Erasures of a segment between two tries to shrink it. Where records go in the order of their
  // places the last pages stay full, and each try looks at a whole segment in vain.
  static constexpr unsigned kShrinkEvery = 32;
  // The directory is never larger than 2^28 pointers: more than a million million records.
  static constexpr unsigned kMostDepth = 28;

  static_assert(PageOf::kIndices == 1u << PeerSlot::kIndexBits, "every index is of a page");

  struct Segment {
    PageOf* page[kMostPages];
    uint32_t used;
    uint8_t pages;
    // How many first bits of the fingerprint all of its records share.
    uint8_t depth;
  };

  Segment* segmentOf(uint64_t low) const noexcept {
    // Two shifts, since one by 64 is undefined.
    return directory_[low >> 1 >> (63 - depth_)];
  }

  static unsigned pageNumber(const Fingerprint& fingerprint, unsigned depth,
                             unsigned pages) noexcept {
    const uint64_t next32 = fingerprint.low << depth >> 32;
    return static_cast<unsigned>(next32 * pages >> 32);
  }

  static PageOf* pageOf(const Segment& segment, const Fingerprint& fingerprint) noexcept {
    return segment.page[pageNumber(fingerprint, segment.depth, segment.pages)];
  }

  // How many values of the first word a segment covers; 0 stands for all 2^64.
  static uint64_t span(const Segment& segment) noexcept {
    return segment.depth == 0 ? 0 : uint64_t{1} << (64 - segment.depth);
  }

  // Where the next segment begins; 0 behind the last.
  static uint64_t endOf(const Segment& segment, uint64_t low) noexcept {
    const uint64_t wide = span(segment);
    return wide == 0 ? 0 : (low & ~(wide - 1)) + wide;
  }

  // Where page `p` of the segment that `low` is of begins: the least that pageNumber() takes there.
  static uint64_t beginOf(const Segment& segment, uint64_t low, unsigned p) noexcept {
    const uint64_t next32 = ((uint64_t{p} << 32) + segment.pages - 1) / segment.pages;
    return (low & ~(span(segment) - 1)) | next32 << 32 >> segment.depth;
  }

  // Goes on behind the page `home`, through all others. They are visited in their order, from where
  // the second word of `fingerprint` points: a page that a cleanup has emptied takes many
  // newcomers, and not all of them must look at the same records.
  template <class Visit>
  RELAY_LIMITER_NOINLINE void sampleOthers(PageOf* home, const Fingerprint& fingerprint,
                                           unsigned most, Visit&& visit) noexcept {
    const Fingerprint start{fingerprint.high, fingerprint.low};
    uint64_t at = start.low;
    Segment* segment = segmentOf(at);
    unsigned p = pageNumber(start, segment->depth, segment->pages);
    PageOf* const first = segment->page[p];
    PageOf* page = first;
    do {
      if (page != home && page->sample(start, most, visit)) return;
      if (++p == segment->pages) {
        at = endOf(*segment, at);
        segment = segmentOf(at);
        p = 0;
      }
      page = segment->page[p];
    } while (page != first);
  }

  template <class Visit>
  static unsigned visitPages(Segment& segment, Visit&& visit) noexcept {
    unsigned erased = 0;
    for (unsigned p = 0; p < segment.pages; ++p) erased += segment.page[p]->sweep(visit);
    return erased;
  }

  bool start() noexcept {
    Segment* segment = newSegment();
    if (segment == nullptr) return false;
    segment->page[0] = newPage();
    directory_ = new (std::nothrow) Segment*[1];
    if (segment->page[0] == nullptr || directory_ == nullptr) {
      if (segment->page[0] != nullptr) pages_.give(segment->page[0]);
      release(segment);
      delete[] directory_;
      directory_ = nullptr;
      return false;
    }
    segment->pages = 1;
    directory_[0] = segment;
    depth_ = 0;
    deepest_ = 1;
    memory_ += sizeof(Segment*);
    return true;
  }

  bool grow(Segment& segment, uint64_t low) noexcept {
    const bool even = segment.pages >= kSplitPages * 2 && segment.pages % 2 == 0;
    if (segment.used < segment.pages * PageOf::kCapacity / 2) return growUneven(segment, low, even);
    if (even) return split(segment, low);
    // One page in ten thousand would get more than it holds: then one page more will do.
    for (unsigned pages = segment.pages + 1u; pages <= kMostPages; ++pages) {
      if (fits(segment, pages, PageOf::kCapacity)) return resize(segment, pages);
    }
    return false;
  }

  // A page is full and most are empty: so it is where a cleanup in the order of another table's
  // records has emptied a part of this one. False for fingerprints that share their first bits,
  // which no secret makes likely: more pages would not help them.
  bool growUneven(Segment& segment, uint64_t low, bool even) noexcept {
    const unsigned pages = std::min(segment.pages * 2u, kMostPages);
    const bool helps = pages > segment.pages && fits(segment, pages, PageOf::kCapacity - 1);
    return helps ? resize(segment, pages) : even && split(segment, low);
  }

  // Spreads a segment's records over another number of pages, which they fit. False, and nothing
  // has changed, where there is no memory.
  bool resize(Segment& segment, unsigned pages) noexcept {
    const unsigned before = segment.pages;
    for (unsigned p = before; p < pages; ++p) {
      segment.page[p] = newPage();
      if (segment.page[p] != nullptr) continue;
      freePages(segment, before, p);
      return false;
    }
    segment.pages = static_cast<uint8_t>(pages);
    ++epoch_;
    // Growing, a record moves to a higher page or stays; shrinking, to a lower one. So each page is
    // emptied before others' records come to it.
    if (pages > before) {
      for (unsigned p = before; p-- > 0;) redistribute(segment, p);
    } else {
      for (unsigned p = 0; p < before; ++p) redistribute(segment, p);
      freePages(segment, pages, before);
    }
    return true;
  }

  // Whether so many pages would hold a segment's records, none of them more than `most`.
  bool fits(Segment& segment, unsigned pages, unsigned most) noexcept {
    uint32_t counts[kMostPages] = {};
    visitPages(segment, [&](Record& record) {
      ++counts[pageNumber(record.fingerprint, segment.depth, pages)];
      return false;
    });
    for (unsigned p = 0; p < pages; ++p) {
      if (counts[p] > most) return false;
    }
    return true;
  }

  void redistribute(Segment& segment, unsigned p) noexcept {
    PageOf records;
    std::memcpy(&records, segment.page[p], sizeof records);
    std::memset(static_cast<void*>(segment.page[p]), 0, sizeof(PageOf));
    records.sweep([&](Record& record) {
      std::memcpy(pageOf(segment, record.fingerprint)->place(record.fingerprint), &record,
                  sizeof record);
      return false;
    });
  }

  // Makes two segments of a full one; no record moves.
  bool split(Segment& segment, uint64_t low) noexcept {
    if (segment.depth == kMostDepth) return false;
    if (segment.depth == depth_ && !doubleDirectory()) return false;
    Segment* upper = newSegment();
    if (upper == nullptr) return false;
    const unsigned half = segment.pages / 2u;
    segment.used = 0;
    for (unsigned p = 0; p < half; ++p) {
      upper->page[p] = segment.page[half + p];
      upper->used += upper->page[p]->count();
      segment.used += segment.page[p]->count();
    }
    upper->pages = segment.pages = static_cast<uint8_t>(half);
    upper->depth = ++segment.depth;
    assign(upper, low | span(segment));
    if (segment.depth == depth_) deepest_ += 2;
    return true;
  }

  // One step: as many pages less as may be, or one segment of two. True if there may be another
  // step to do.
  bool shrink(Segment* segment, uint64_t low) noexcept {
    const unsigned least = segment->depth == 0 ? 1 : kSplitPages;
    if (segment->pages > least) {
      const unsigned pages = std::max(least, (segment->used + kShrinkAt - 1) / kShrinkAt);
      return pages < segment->pages && fits(*segment, pages, PageOf::kCapacity) &&
             resize(*segment, pages);
    }
    return segment->depth > 0 && merge(segment, low);
  }

  // Makes one segment of two that are as small as may be; no record moves.
  bool merge(Segment* segment, uint64_t low) noexcept {
    Segment* other = segmentOf(low ^ span(*segment));
    if (other->depth != segment->depth || other->pages != kSplitPages) return false;
    if (segment->used + other->used > (2 * kSplitPages - 1) * kShrinkAt) return false;
    const bool isUpper = (low & span(*segment)) != 0;
    Segment* lower = isUpper ? other : segment;
    Segment* upper = isUpper ? segment : other;
    for (unsigned p = 0; p < kSplitPages; ++p) lower->page[kSplitPages + p] = upper->page[p];
    lower->pages = 2 * kSplitPages;
    lower->used += upper->used;
    if (lower->depth == depth_) deepest_ -= 2;
    --lower->depth;
    assign(lower, low);
    release(upper);
    if (deepest_ == 0) halveDirectory();
    return true;
  }

  // Enters a segment wherever its fingerprints, of which `low` begins one, lead.
  void assign(Segment* segment, uint64_t low) noexcept {
    const size_t entries = size_t{1} << (depth_ - segment->depth);
    const size_t first = static_cast<size_t>(low >> 1 >> (63 - depth_)) & ~(entries - 1);
    for (size_t i = 0; i < entries; ++i) directory_[first + i] = segment;
  }

  bool doubleDirectory() noexcept {
    const size_t entries = size_t{1} << depth_;
    auto** doubled = new (std::nothrow) Segment*[entries * 2];
    if (doubled == nullptr) return false;
    for (size_t i = 0; i < entries * 2; ++i) doubled[i] = directory_[i / 2];
    replaceDirectory(doubled, depth_ + 1);
    deepest_ = 0;
    return true;
  }

  void halveDirectory() noexcept {
    const size_t entries = size_t{1} << (depth_ - 1);
    auto** halved = new (std::nothrow) Segment*[entries];
    // A directory of twice the size is right as well.
    if (halved == nullptr) return;
    for (size_t i = 0; i < entries; ++i) halved[i] = directory_[i * 2];
    replaceDirectory(halved, depth_ - 1);
    deepest_ = 0;
    for (size_t i = 0; i < entries; ++i) deepest_ += directory_[i]->depth == depth_;
  }

  void replaceDirectory(Segment** directory, unsigned depth) noexcept {
    memory_ += (sizeof(Segment*) << depth) - (sizeof(Segment*) << depth_);
    delete[] directory_;
    directory_ = directory;
    depth_ = depth;
  }

  void freeDirectory() noexcept {
    memory_ -= sizeof(Segment*) << depth_;
    delete[] directory_;
    directory_ = nullptr;
    depth_ = 0;
  }

  Segment* newSegment() noexcept {
    auto* segment = new (std::nothrow) Segment();
    if (segment != nullptr) memory_ += sizeof(Segment);
    return segment;
  }

  void release(Segment* segment) noexcept {
    memory_ -= sizeof(Segment);
    delete segment;
  }

  // All bytes zero: every slot empty.
  PageOf* newPage() noexcept { return static_cast<PageOf*>(pages_.take()); }

  void freePages(const Segment& segment, unsigned first, unsigned end) noexcept {
    for (unsigned p = first; p < end && p < kMostPages; ++p) pages_.give(segment.page[p]);
  }

  // Null until the first insert, and after clear().
  Segment** directory_ = nullptr;
  unsigned depth_ = 0;
  // Segments as deep as the directory: without one it can be halved.
  size_t deepest_ = 0;
  size_t size_ = 0;
  // What directory and segments take.
  size_t memory_ = 0;
  PageAllocator<sizeof(PageOf), Memory> pages_;
  uint64_t epoch_ = 1;
};

}  // namespace relay_limiter

// Table maps fingerprints to records: an open-addressing hash table of any size, without a
// stop-the-world rehash. One thread at a time may use it.
//
//  directory   one pointer to a segment for each value of a fingerprint's first bits (directory.h)
//  segment     up to 32 pages; the next bits of the fingerprint choose one (segment.h)
//  page        a small hash table of 480 records (page.h)
//
// A full segment gets one more page, and each of its records stays or moves to the next page: the
// load stays between 0.77 and 0.9. A segment of 12 full pages splits into two of 6. This moves no
// record: the bit that chose between the lower and the upper pages then chooses between the two
// segments. Shrinking does the reverse. So an operation touches at most one segment (192 KiB of
// 32-byte records) and the directory. Doubling the directory copies 8 bytes for about 4,000
// records.
//
// A pointer to a record is valid until the next change of the table; a peer slot is always safe to
// use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include "../memory/compiler.h"
#include "../memory/page-allocator.h"
#include "directory.h"
#include "peer-slot.h"
#include "segment.h"

namespace relay_limiter {

template <class Record, class Memory = SystemMemory>
class Table {
 public:
  using RecordType = Record;

  Table() noexcept = default;
  ~Table() noexcept { clear(); }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  size_t size() const noexcept { return size_; }
  size_t memoryBytes() const noexcept {
    return segmentBytes_ + directory_.memoryBytes() + pages_.memoryBytes();
  }

  Record* find(const Fingerprint& fingerprint) const noexcept {
    return directory_.isEmpty() ? nullptr : pageOf(fingerprint)->find(fingerprint);
  }

  // Record pointers stay dereferenceable until this number changes, but may then belong to another
  // peer or to no peer. It changes whenever records move or pages are freed.
  uint64_t epoch() const noexcept { return epoch_; }

  // The slot of a record of this table.
  PeerSlot slotOf(Record* record) const noexcept {
    const Fingerprint& fingerprint = record->fingerprint;
    PageOf* page = pageOf(fingerprint);
    return PeerSlot::of(fingerprint,
                        PeerSlot::placeAt(pages_.numberOf(page), page->indexOf(record)));
  }

  // The record at a slot, if it is still there; else nullptr, and find() is needed. Any three words
  // are safe, except that a slot of two zero words may return an empty record.
  Record* at(const PeerSlot& seat) const noexcept {
    auto* page = static_cast<PageOf*>(pages_.at(seat.page()));
    if (page == nullptr) return nullptr;
    Record* record = page->at(seat.index());
    return seat.isOf(record->fingerprint) ? record : nullptr;
  }

  // Fetches the memory that at() will read.
  RELAY_LIMITER_INLINE void prepareAt(int32_t place) const noexcept {
    const PeerSlot slot{place, 0, 0};
    auto* page = static_cast<PageOf*>(pages_.at(slot.page()));
    if (page != nullptr) page->prepareAt(slot.index());
  }

  // Fetches the memory that find() will read.
  RELAY_LIMITER_INLINE void prepare(const Fingerprint& fingerprint) const noexcept {
    if (!directory_.isEmpty()) pageOf(fingerprint)->prepare(fingerprint);
  }

  // Adds a record for a fingerprint that has none, and writes only the fingerprint. nullptr if
  // there is no memory; then nothing has changed that a caller could see.
  Record* insert(const Fingerprint& fingerprint) noexcept {
    if (directory_.isEmpty() && !start()) return nullptr;
    for (;;) {
      SegmentOf& segment = *directory_.segmentOf(fingerprint.low);
      if (segment.used < segment.pages * kGrowAt) {
        Record* record = segment.pageOf(fingerprint)->place(fingerprint);
        if (record != nullptr) {
          ++segment.used;
          ++size_;
          return record;
        }
      }
      if (!grow(segment, fingerprint.low)) return nullptr;
    }
  }

  // Erases a record of this table.
  void erase(Record* record) noexcept {
    const Fingerprint fingerprint = record->fingerprint;
    SegmentOf& segment = *directory_.segmentOf(fingerprint.low);
    segment.pageOf(fingerprint)->erase(record);
    --segment.used;
    --size_;
    if (segment.used % kShrinkEvery == 0) shrink(&segment, fingerprint.low);
  }

  // Calls visit(Record&) for up to `most` different records, until it returns true. The records of
  // the fingerprint's page come first, because a look-up has just read that memory. Without the
  // secret nobody can predict which records they are.
  template <class Visit>
  void sample(const Fingerprint& fingerprint, unsigned most, Visit&& visit) noexcept {
    if (directory_.isEmpty()) return;
    PageOf* const home = pageOf(fingerprint);
    if (!home->sample(fingerprint, most, visit)) sampleOthers(home, fingerprint, most, visit);
  }

  // Erases `record` and inserts a fingerprint that is not in the table. If both belong to one page,
  // no other record moves and no memory is needed. nullptr if there is no memory; then nothing has
  // changed.
  Record* replace(Record* record, const Fingerprint& fingerprint) noexcept {
    const Fingerprint candidate = record->fingerprint;
    PageOf* const page = pageOf(fingerprint);
    if (page == pageOf(candidate)) {
      page->erase(record);
      return page->place(fingerprint);
    }
    if (insert(fingerprint) == nullptr) return nullptr;
    // Both calls may move records.
    erase(find(candidate));
    return find(fingerprint);
  }

  void clear() noexcept {
    if (directory_.isEmpty()) return;
    ++epoch_;
    uint64_t at = 0;
    do {
      SegmentOf* segment = directory_.segmentOf(at);
      at = segment->endOf(at);
      release(segment);
    } while (at != 0);
    directory_.clear();
    pages_.giveAll();
    size_ = 0;
  }

  // Calls visit(Record&) for each record of the page at `cursor`, erases those for which it returns
  // true, and advances the cursor, which starts at 0. False after the last page. The table may
  // change between two calls: a record that stays in the table throughout is visited at least once.
  template <class Visit>
  bool sweep(uint64_t& cursor, Visit&& visit) noexcept {
    if (directory_.isEmpty()) return false;
    const uint64_t at = cursor;
    SegmentOf* segment = directory_.segmentOf(at);
    const unsigned p = SegmentOf::pageNumber({at, 0}, segment->depth, segment->pages);
    const unsigned erased = segment->page[p]->sweep(visit);
    segment->used -= erased;
    size_ -= erased;
    if (p + 1u < segment->pages) {
      cursor = segment->beginOf(at, p + 1u);
      return true;
    }
    cursor = segment->endOf(at);
    // Shrinks once all of its pages were visited, because each step may move all of its records.
    while (shrink(segment, at)) segment = directory_.segmentOf(at);
    return cursor != 0;
  }

  // Calls visit(Record&) once for every record.
  template <class Visit>
  void forEach(Visit&& visit) noexcept {
    if (directory_.isEmpty()) return;
    uint64_t at = 0;
    do {
      SegmentOf& segment = *directory_.segmentOf(at);
      at = segment.endOf(at);
      segment.visitPages([&](Record& record) {
        visit(record);
        return false;
      });
    } while (at != 0);
  }

 private:
  using PageOf = Page<Record>;
  using SegmentOf = Segment<Record>;

  // Every segment has 6 to 12 pages (rarely more), if there is more than one. Measured: 4 to 8
  // pages mean 45 bytes per record, 8 to 16 pages 41.5, at longer steps.
  static constexpr unsigned kSplitPages = 6;
  static constexpr unsigned kMostPages = SegmentOf::kMostPages;
  // Average records per page above which a segment grows, and below which it shrinks if it would
  // hold no more than that after it.
  static constexpr unsigned kGrowAt = PageOf::kCapacity * 9 / 10;
  static constexpr unsigned kShrinkAt = PageOf::kCapacity * 3 / 4;
  // Erasures in a segment between two attempts to shrink it. If records are erased in the order of
  // their places, the last pages stay full, and every attempt scans a whole segment for nothing.
  static constexpr unsigned kShrinkEvery = 32;

  static_assert(PageOf::kIndices == 1u << PeerSlot::kIndexBits, "every index is of a page");

  PageOf* pageOf(const Fingerprint& fingerprint) const noexcept {
    return directory_.segmentOf(fingerprint.low)->pageOf(fingerprint);
  }

  // Continues sample() after the page `home`, through all other pages in their order. It starts at
  // the page of the fingerprint's second word: after a cleanup many newcomers may share an empty
  // home page, and they must not all sample the same records.
  template <class Visit>
  RELAY_LIMITER_NOINLINE void sampleOthers(PageOf* home, const Fingerprint& fingerprint,
                                           unsigned most, Visit&& visit) noexcept {
    const Fingerprint start{fingerprint.high, fingerprint.low};
    uint64_t at = start.low;
    SegmentOf* segment = directory_.segmentOf(at);
    unsigned p = SegmentOf::pageNumber(start, segment->depth, segment->pages);
    PageOf* const first = segment->page[p];
    PageOf* page = first;
    do {
      if (page != home && page->sample(start, most, visit)) return;
      if (++p == segment->pages) {
        at = segment->endOf(at);
        segment = directory_.segmentOf(at);
        p = 0;
      }
      page = segment->page[p];
    } while (page != first);
  }

  bool start() noexcept {
    SegmentOf* segment = newSegment();
    if (segment == nullptr) return false;
    segment->page[0] = newPage();
    if (segment->page[0] == nullptr || !directory_.start(segment)) {
      if (segment->page[0] != nullptr) pages_.give(segment->page[0]);
      release(segment);
      return false;
    }
    segment->pages = 1;
    return true;
  }

  bool grow(SegmentOf& segment, uint64_t low) noexcept {
    const bool even = segment.pages >= kSplitPages * 2 && segment.pages % 2 == 0;
    if (segment.used < segment.pages * PageOf::kCapacity / 2) return growUneven(segment, low, even);
    if (even) return split(segment, low);
    // About one page in 10,000 would get more records than it holds. Then one page more is enough.
    for (unsigned pages = segment.pages + 1u; pages <= kMostPages; ++pages) {
      if (segment.fits(pages, PageOf::kCapacity)) return resize(segment, pages);
    }
    return false;
  }

  // Handles a segment with a full page although most of its pages are nearly empty, as after a
  // cleanup in the order of another table's records. False if all fingerprints share their first
  // bits: more pages would not help. No secret makes that likely.
  bool growUneven(SegmentOf& segment, uint64_t low, bool even) noexcept {
    const unsigned pages = std::min(segment.pages * 2u, kMostPages);
    const bool helps = pages > segment.pages && segment.fits(pages, PageOf::kCapacity - 1);
    return helps ? resize(segment, pages) : even && split(segment, low);
  }

  // Changes the number of a segment's pages; its records must fit. False if there is no memory;
  // then nothing has changed.
  bool resize(SegmentOf& segment, unsigned pages) noexcept {
    const unsigned before = segment.pages;
    for (unsigned p = before; p < pages; ++p) {
      segment.page[p] = newPage();
      if (segment.page[p] != nullptr) continue;
      freePages(segment, before, p);
      return false;
    }
    segment.pages = static_cast<uint8_t>(pages);
    ++epoch_;
    segment.redistribute(before);
    freePages(segment, pages, before);
    return true;
  }

  // Splits a full segment in two. No record moves.
  bool split(SegmentOf& segment, uint64_t low) noexcept {
    if (!directory_.prepareSplit(segment)) return false;
    SegmentOf* upper = newSegment();
    if (upper == nullptr) return false;
    const unsigned half = segment.pages / 2u;
    segment.used = 0;
    for (unsigned p = 0; p < half; ++p) {
      upper->page[p] = segment.page[half + p];
      upper->used += upper->page[p]->count();
      segment.used += segment.page[p]->count();
    }
    upper->pages = segment.pages = static_cast<uint8_t>(half);
    directory_.split(segment, upper, low);
    return true;
  }

  // Removes as many pages as possible, or merges two small segments. True if another step may be
  // possible.
  bool shrink(SegmentOf* segment, uint64_t low) noexcept {
    const unsigned least = segment->depth == 0 ? 1 : kSplitPages;
    if (segment->pages > least) {
      const unsigned pages = std::max(least, (segment->used + kShrinkAt - 1) / kShrinkAt);
      return pages < segment->pages && segment->fits(pages, PageOf::kCapacity) &&
             resize(*segment, pages);
    }
    return segment->depth > 0 && merge(segment, low);
  }

  // Merges two segments of the least size. No record moves.
  bool merge(SegmentOf* segment, uint64_t low) noexcept {
    SegmentOf* other = directory_.segmentOf(low ^ segment->span());
    if (other->depth != segment->depth || other->pages != kSplitPages) return false;
    if (segment->used + other->used > (2 * kSplitPages - 1) * kShrinkAt) return false;
    const bool isUpper = (low & segment->span()) != 0;
    SegmentOf* lower = isUpper ? other : segment;
    SegmentOf* upper = isUpper ? segment : other;
    for (unsigned p = 0; p < kSplitPages; ++p) lower->page[kSplitPages + p] = upper->page[p];
    lower->pages = 2 * kSplitPages;
    lower->used += upper->used;
    directory_.merge(lower, low);
    release(upper);
    return true;
  }

  SegmentOf* newSegment() noexcept {
    auto* segment = new (std::nothrow) SegmentOf();
    if (segment != nullptr) segmentBytes_ += sizeof(SegmentOf);
    return segment;
  }

  void release(SegmentOf* segment) noexcept {
    segmentBytes_ -= sizeof(SegmentOf);
    delete segment;
  }

  // All bytes are zero, so every slot is empty.
  PageOf* newPage() noexcept { return static_cast<PageOf*>(pages_.take()); }

  void freePages(const SegmentOf& segment, unsigned first, unsigned end) noexcept {
    for (unsigned p = first; p < end && p < kMostPages; ++p) pages_.give(segment.page[p]);
  }

  // Empty before the first insert and after clear().
  Directory<SegmentOf> directory_;
  size_t size_ = 0;
  size_t segmentBytes_ = 0;
  PageAllocator<sizeof(PageOf), Memory> pages_;
  uint64_t epoch_ = 1;
};

}  // namespace relay_limiter

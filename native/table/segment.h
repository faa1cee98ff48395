// Segment is a part of a table: the records whose fingerprints share their first `depth` bits,
// spread over 1 to 32 pages. The next bits of a fingerprint choose its page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "page.h"

namespace relay_limiter {

template <class Record>
struct Segment {
  using PageOf = Page<Record>;

  static constexpr unsigned kMostPages = 32;

  PageOf* page[kMostPages];
  // The number of records.
  uint32_t used;
  uint8_t pages;
  uint8_t depth;

  static unsigned pageNumber(const Fingerprint& fingerprint, unsigned depth,
                             unsigned pages) noexcept {
    const uint64_t next32 = fingerprint.low << depth >> 32;
    return static_cast<unsigned>(next32 * pages >> 32);
  }

  PageOf* pageOf(const Fingerprint& fingerprint) const noexcept {
    return page[pageNumber(fingerprint, depth, pages)];
  }

  // The number of values of the first word that the segment covers; 0 means all 2^64.
  uint64_t span() const noexcept { return depth == 0 ? 0 : uint64_t{1} << (64 - depth); }

  // The first value of the next segment, if `low` is a value of this one; 0 after the last segment.
  uint64_t endOf(uint64_t low) const noexcept {
    const uint64_t values = span();
    return values == 0 ? 0 : (low & ~(values - 1)) + values;
  }

  // The least value for which pageNumber() returns `p`, in the segment of `low`.
  uint64_t beginOf(uint64_t low, unsigned p) const noexcept {
    const uint64_t next32 = ((uint64_t{p} << 32) + pages - 1) / pages;
    return (low & ~(span() - 1)) | next32 << 32 >> depth;
  }

  // Page::sweep for all pages, without a change of `used`.
  template <class Visit>
  unsigned visitPages(Visit&& visit) noexcept {
    unsigned erased = 0;
    for (unsigned p = 0; p < pages; ++p) erased += page[p]->sweep(visit);
    return erased;
  }

  // Whether the records fit `count` pages, with at most `most` records in each.
  bool fits(unsigned count, unsigned most) noexcept {
    uint32_t counts[kMostPages] = {};
    visitPages([&](Record& record) {
      ++counts[pageNumber(record.fingerprint, depth, count)];
      return false;
    });
    for (unsigned p = 0; p < count; ++p) {
      if (counts[p] > most) return false;
    }
    return true;
  }

  // Moves the records to their pages after `pages` has changed from `before`. The records must fit.
  void redistribute(unsigned before) noexcept {
    // If the number has grown, a record stays or moves to a later page; else to an earlier page. In
    // this order each page is emptied before records of other pages come to it.
    if (pages > before) {
      for (unsigned p = before; p-- > 0;) redistributePage(p);
    } else {
      for (unsigned p = 0; p < before; ++p) redistributePage(p);
    }
  }

 private:
  void redistributePage(unsigned p) noexcept {
    PageOf records;
    std::memcpy(&records, page[p], sizeof records);
    std::memset(static_cast<void*>(page[p]), 0, sizeof(PageOf));
    records.sweep([&](Record& record) {
      std::memcpy(pageOf(record.fingerprint)->place(record.fingerprint), &record, sizeof record);
      return false;
    });
  }
};

}  // namespace relay_limiter

// PageDirectory maps numbers to the addresses of pages. A number may outlive its page: then it maps
// to nullptr, or to the page that has the number now. The directory owns no page.
//
// The first kSingles numbers exist from the start and need no memory. The others are taken in
// ranges of kRange numbers; the first number of a taken range always has an address.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>

namespace relay_limiter {

template <size_t kSingles, size_t kRange>
class PageDirectory {
 public:
  PageDirectory() noexcept = default;
  ~PageDirectory() noexcept { free(); }
  PageDirectory(const PageDirectory&) = delete;
  PageDirectory& operator=(const PageDirectory&) = delete;

  size_t memoryBytes() const noexcept { return addresses_ == singles_ ? 0 : end_ * sizeof(void*); }

  // nullptr if no page has the number.
  void* at(size_t number) const noexcept { return number < end_ ? addresses_[number] : nullptr; }

  void set(size_t number, void* address) noexcept { addresses_[number] = address; }

  // Takes a range and gives its first number, `number`, to `holder`, which is not nullptr. False if
  // there is no memory.
  bool takeRange(void* holder, size_t& number) noexcept {
    number = kSingles;
    while (number < end_ && addresses_[number] != nullptr) number += kRange;
    if (number == end_ && !grow()) return false;
    set(number, holder);
    ++ranges_;
    return true;
  }

  // Frees the directory's memory with the last range. Until then it keeps 1/2000 of what its pages
  // have used.
  void giveRange(size_t number) noexcept {
    std::fill_n(addresses_ + number, kRange, nullptr);
    if (--ranges_ == 0) free();
  }

 private:
  bool grow() noexcept {
    const size_t ranges = (end_ - kSingles) / kRange;
    const size_t end = kSingles + std::max<size_t>(1, ranges * 2) * kRange;
    auto** addresses = new (std::nothrow) void*[end]();
    if (addresses == nullptr) return false;
    replace(addresses, end, end_);
    return true;
  }

  void free() noexcept {
    if (addresses_ != singles_) replace(singles_, kSingles, kSingles);
  }

  void replace(void** addresses, size_t end, size_t kept) noexcept {
    std::copy_n(addresses_, kept, addresses);
    if (addresses_ != singles_) delete[] addresses_;
    addresses_ = addresses;
    end_ = end;
  }

  void* singles_[kSingles] = {};
  void** addresses_ = singles_;
  size_t end_ = kSingles;
  // The number of ranges that are taken.
  size_t ranges_ = 0;
};

}  // namespace relay_limiter

// PageDirectory: addresses by their numbers. A number may outlive what it names: then it leads to
// nothing, or to what has it now. It owns none of the addresses.
//
// The first kSingles numbers are there from the start, without any memory; the others come in
// ranges of kRange, the first of each held by whom the range is for as long as that has it.
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

  // nullptr where there is nothing.
  void* at(size_t number) const noexcept { return number < end_ ? addresses_[number] : nullptr; }

  void set(size_t number, void* address) noexcept { addresses_[number] = address; }

  // The numbers of a range, of which `holder`, no nullptr, gets the first, `number`. False where
  // there is no memory.
  bool takeRange(void* holder, size_t& number) noexcept {
    number = kSingles;
    while (number < end_ && addresses_[number] != nullptr) number += kRange;
    if (number == end_ && !grow()) return false;
    set(number, holder);
    ++ranges_;
    return true;
  }

  // The memory goes with the last range: it is a two thousandth of that of the pages it was for.
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
  // How many ranges are taken.
  size_t ranges_ = 0;
};

}  // namespace relay_limiter

// The bytes that libFuzzer makes up.
#pragma once

#include <cstddef>
#include <cstdint>

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  bool empty() const { return data_ == end_; }
  // Behind the end there are zeros.
  unsigned byte() { return empty() ? 0 : *data_++; }
  unsigned twoBytes() {
    const unsigned high = byte();
    return high << 8 | byte();
  }

 private:
  const uint8_t* data_;
  const uint8_t* end_;
};

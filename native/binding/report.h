// Statistics and snapshots of a limiter as JavaScript values, and the restore of peers from a
// snapshot. `Core` is a limiter.
#pragma once

#include <napi.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "../limiters/counters.h"
#include "../limiters/offenders.h"
#include "../limiters/records.h"
#include "../limiters/snapshot-walk.h"
#include "arguments.h"

namespace relay_limiter {

// A plain napi_value. Set() would convert a Napi::String to UTF-8, which has no lone surrogates.
inline napi_value stringOf(Napi::Env env, const char16_t* text, size_t length) {
  return Napi::String::New(env, text, length);
}

// From Latin-1, which Napi::String does not support.
inline napi_value stringOf(Napi::Env env, const char* text, size_t length) {
  napi_value string = nullptr;
  if (napi_create_string_latin1(env, text, length, &string) != napi_ok) throwNoMemory(env);
  return string;
}

inline napi_value stringOf(Napi::Env env, const StoredKey& key) {
  return key.read([env](const auto* text, size_t length) { return stringOf(env, text, length); });
}

// A JavaScript array of keys that grows.
class KeyList {
 public:
  explicit KeyList(Napi::Env env) : array(Napi::Array::New(env)) {}

  void push(const StoredKey& key) {
    // Without it the handles of a hundred thousand keys would pile up.
    const Napi::HandleScope scope(array.Env());
    array.Set(size++, stringOf(array.Env(), key));
  }

  Napi::Array array;
  uint32_t size = 0;
};

inline Napi::Array topViolatorsOf(Napi::Env env, OffenderTable& offenders) {
  const Offender* top[OffenderTable::kTop];
  const size_t count = offenders.topViolators(top);
  Napi::Array result = Napi::Array::New(env, count);
  for (size_t i = 0; i < count; ++i) {
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, top[i]->storedKey));
    pair.Set(1u, static_cast<double>(top[i]->violations));
    result.Set(static_cast<uint32_t>(i), pair);
  }
  return result;
}

inline void setCounters(Napi::Env env, Napi::Object& result, const Counters& counters) {
  Napi::Object verdicts = Napi::Object::New(env);
  verdicts.Set("allow", static_cast<double>(counters.allowed));
  verdicts.Set("delay", static_cast<double>(counters.delayed));
  verdicts.Set("disconnect", static_cast<double>(counters.disconnected));
  result.Set("verdicts", verdicts);
  result.Set("bansBegun", static_cast<double>(counters.bansBegun));
  result.Set("evictions", static_cast<double>(counters.evictions));
  result.Set("lossyEvictions", static_cast<double>(counters.lossyEvictions));
  result.Set("refusedNewcomers", static_cast<double>(counters.refusedNewcomers));
}

template <class Core>
Napi::Value statisticsOf(Napi::Env env, Core& core) {
  OffenderTable& offenders = core.offenders().table();
  Napi::Object result = Napi::Object::New(env);
  result.Set("tracked", static_cast<double>(core.tracked()));
  result.Set("peers", static_cast<double>(core.peers()));
  result.Set("totalViolations", static_cast<double>(offenders.totalViolations()));
  result.Set("topViolators", topViolatorsOf(env, offenders));
  result.Set("unnamedOffenders", static_cast<double>(offenders.unnamed()));
  result.Set("memoryBytes", static_cast<double>(core.memoryBytes()));
  setCounters(env, result, core.counters());
  return result;
}

template <class Core>
Napi::Value bannedKeysOf(Napi::Env env, Core& core, double now) {
  KeyList banned(env);
  const auto use = [&](const StoredKey& key) { banned.push(key); };
  if (!core.offenders().bannedKeys(now, core.banDuration(), use)) throwNoMemory(env);
  return banned.array;
}

// { count, bans }: `bans` are pairs of a key and the seconds until its ban ends.
template <class Core>
Napi::Value longestBansOf(Napi::Env env, Core& core, double limit, double now) {
  Napi::Object result = Napi::Object::New(env);
  Napi::Array bans = Napi::Array::New(env);
  const double banDuration = core.banDuration();
  const auto use = [&](const StoredKey& key, double began) {
    const Napi::HandleScope scope(env);
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, stringOf(env, key));
    pair.Set(1u, banDuration - elapsed(now, began));
    bans.Set(bans.Length(), pair);
  };
  size_t count = 0;
  if (!core.offenders().longestBans(limit, now, banDuration, count, use)) throwNoMemory(env);
  result.Set("count", static_cast<double>(count));
  result.Set("bans", bans);
  return result;
}

// The numbers of an offender: violations; seconds until its ban ends (NaN: no ban); seconds it has
// been idle (infinity: unknown); tokens (NaN: not saved) and idle seconds of its bucket.
constexpr size_t kOffenceNumbers = 5;

// A peer that is named by a digest. Its digest is four 32-bit words, low ones first. Its numbers
// are the seconds since its last allowed request (NaN: not saved), and the tokens (NaN: not saved)
// and idle seconds of its bucket.
constexpr size_t kDigestWords = 4;
constexpr size_t kDigestNumbers = 3;

// A list of numbers that grows. It creates no JavaScript values.
template <class Number>
class Column {
 public:
  ~Column() noexcept { std::free(numbers_); }

  // False if there is no memory.
  bool push(Number number) noexcept {
    if (size_ == capacity_ && !grow()) return false;
    numbers_[size_++] = number;
    return true;
  }

  size_t size() const noexcept { return size_; }
  const Number* begin() const noexcept { return numbers_; }

 private:
  bool grow() noexcept {
    const size_t capacity = capacity_ == 0 ? 64 : capacity_ * 2;
    void* numbers = std::realloc(numbers_, capacity * sizeof(Number));
    if (numbers == nullptr) return false;
    numbers_ = static_cast<Number*>(numbers);
    capacity_ = capacity;
    return true;
  }

  Number* numbers_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

inline void pushWords(Column<uint32_t>& words, uint64_t low, uint64_t high, bool& hasMemory) {
  for (const uint64_t word : {low, low >> 32, high, high >> 32}) {
    hasMemory = hasMemory && words.push(static_cast<uint32_t>(word));
  }
}

// A typed array of the class `Array` with the numbers of a column. Undefined if the thread is
// ending: the array cannot be created then, and no exception is pending.
template <class Array, class Number>
Napi::Value arrayOf(Napi::Env env, const Column<Number>& column) {
  Array array = Array::New(env, column.size());
  if (array.IsEmpty()) return env.Undefined();
  std::copy_n(column.begin(), column.size(), array.Data());
  return array;
}

// The four words of a secret, low ones first.
inline Napi::Value secretWordsOf(Napi::Env env, const Secret& secret) {
  Napi::Uint32Array words = Napi::Uint32Array::New(env, 4);
  if (words.IsEmpty()) return env.Undefined();
  size_t i = 0;
  for (const uint64_t word : {secret.k0, secret.k0 >> 32, secret.k1, secret.k1 >> 32}) {
    words.Data()[i++] = static_cast<uint32_t>(word);
  }
  return words;
}

// One step of a snapshot in columns.
struct SnapshotColumns {
  explicit SnapshotColumns(Napi::Env env, const Secret& own) : keys(env), secret(own) {}

  // { keys, numbers, secret, digests, digestNumbers, isOver }. Undefined with a pending exception
  // if there is no memory.
  Napi::Value toObject(bool isOver) {
    const Napi::Env env = keys.array.Env();
    if (!hasMemory) throwNoMemory(env);
    if (env.IsExceptionPending()) return env.Undefined();
    Napi::Object result = Napi::Object::New(env);
    result.Set("keys", keys.array);
    result.Set("numbers", arrayOf<Napi::Float64Array>(env, numbers));
    result.Set("secret", secretWordsOf(env, secret));
    result.Set("digests", arrayOf<Napi::Uint32Array>(env, digests));
    result.Set("digestNumbers", arrayOf<Napi::Float64Array>(env, digestNumbers));
    result.Set("isOver", isOver);
    return result;
  }

  bool isEmpty() const noexcept { return numbers.size() == 0 && digests.size() == 0; }

  void addNumber(double number) noexcept { hasMemory = hasMemory && numbers.push(number); }

  // `other` is the secret of the digest; nullptr for the limiter's own.
  void addDigest(const Secret* other, const Fingerprint& digest) noexcept {
    if (other != nullptr) secret = *other;
    pushWords(digests, digest.low, digest.high, hasMemory);
  }
  void addDigestNumber(double number) noexcept {
    hasMemory = hasMemory && digestNumbers.push(number);
  }

  KeyList keys;
  Column<double> numbers;
  Secret secret;
  Column<uint32_t> digests;
  Column<double> digestNumbers;
  bool hasMemory = true;
};

// The next step of a snapshot. A step may find no peer.
template <class Core>
Napi::Value snapshotStepOf(Napi::Env env, Core& core, const Secret& own, SnapshotWalk<Core>& walk,
                           size_t limit, double now) {
  SnapshotColumns columns(env, own);
  const double banDuration = core.banDuration();
  const auto useOffender = [&](const Offender& offender, double began) {
    columns.keys.push(offender.storedKey);
    const SavedBucket bucket = core.savedBucket(offender.fingerprint, now);
    for (const double number :
         {static_cast<double>(offender.violations),
          began == kNever ? std::nan("") : banDuration - elapsed(now, began),
          core.idleSeconds(offender.fingerprint, now), bucket.tokens, bucket.idleSeconds}) {
      columns.addNumber(number);
    }
  };
  const auto useDigest = [&](const Secret* other, const SavedDigest& saved) {
    columns.addDigest(other, saved.digest);
    for (const double number : {saved.idleSeconds, saved.bucket.tokens, saved.bucket.idleSeconds}) {
      columns.addDigestNumber(number);
    }
  };
  if (!walk.step(core, now, limit, useOffender, useDigest)) columns.hasMemory = false;
  return columns.toObject(walk.isOver());
}

// The 64-bit word whose low half comes first.
inline uint64_t joinHalves(const uint32_t* halves) noexcept {
  return halves[0] | static_cast<uint64_t>(halves[1]) << 32;
}

// How many peers are prefetched before the first of them is restored.
constexpr uint32_t kRestoreBatch = 8;

// Calls put(digest, numbers) for each peer under a digest, which has kNumbers numbers, and
// prepare(digest) kRestoreBatch peers earlier. Returns how many were restored. If there is no
// memory, it stops and an exception is pending.
template <size_t kNumbers, class Prepare, class Put>
uint32_t restoreDigestsFrom(Napi::Env env, const Napi::Value& digests, const Napi::Value& numbers,
                            Prepare&& prepare, Put&& put) {
  const auto words = digests.As<Napi::Uint32Array>();
  const auto array = numbers.As<Napi::Float64Array>();
  const uint32_t* word = words.Data();
  const double* next = array.Data();
  const size_t count =
      std::min(words.ElementLength() / kDigestWords, array.ElementLength() / kNumbers);
  const auto digestAt = [word](size_t i) {
    return Fingerprint{joinHalves(word + i * kDigestWords),
                       joinHalves(word + i * kDigestWords + 2)};
  };
  uint32_t restored = 0;
  for (size_t i = 0; i < count; ++i, next += kNumbers) {
    if (i + kRestoreBatch < count) prepare(digestAt(i + kRestoreBatch));
    const Fingerprint digest = digestAt(i);
    // All zeros mark an empty slot, so no peer has this digest.
    if ((digest.low | digest.high) == 0) continue;
    const Verdict verdict = put(digest, next);
    if (verdict == Verdict::kNoMemory) {
      throwNoMemory(env);
      return restored;
    }
    if (verdict == Verdict::kAllowed) ++restored;
  }
  return restored;
}

// Calls put(key, numbers) for each offender, which has kNumbers numbers, and returns how many were
// restored. If there is no memory or a key cannot be read, it stops and an exception is pending.
// `secret` is the limiter's own, which changes if put() finds that another process has changed it.
template <size_t kNumbers, class Core, class Put>
uint32_t restoreOffendersFrom(Napi::Env env, const Core& core, const Secret& secret,
                              napi_value keys, const Napi::Value& numbers, Put&& put) {
  const auto array = numbers.As<Napi::Float64Array>();
  const auto count = static_cast<uint32_t>(array.ElementLength() / kNumbers);
  const double* next = array.Data();
  uint32_t restored = 0;
  for (uint32_t first = 0; first < count; first += kRestoreBatch) {
    KeyText texts[kRestoreBatch];
    Key found[kRestoreBatch];
    const uint32_t some = std::min(kRestoreBatch, count - first);
    const Secret before = secret;
    for (uint32_t i = 0; i < some; ++i) {
      if (!readElement(env, keys, first + i, texts[i])) return restored;
      found[i] = texts[i].key(secret);
      core.prepare(found[i].fingerprint);
    }
    for (uint32_t i = 0; i < some; ++i, next += kNumbers) {
      if (!(secret == before)) found[i] = texts[i].key(secret);
      const Verdict verdict = put(found[i], next);
      if (verdict == Verdict::kNoMemory) {
        throwNoMemory(env);
        return restored;
      }
      if (verdict == Verdict::kAllowed) ++restored;
    }
  }
  return restored;
}

}  // namespace relay_limiter

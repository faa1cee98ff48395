// What the objects of rule limiters, private and shared ones, read from JavaScript.
#pragma once

#include <napi.h>

#include "../limiters/rules/limiter.h"
#include "rule-plan-reader.h"

namespace relay_limiter {

// RULE_OFFENDER_NUMBERS and RULE_DIGEST_NUMBERS of lib/engine/rules.ts.
constexpr size_t kRuleOffenderNumbers = sizeof(SavedRuleOffender) / sizeof(double);
constexpr size_t kRuleDigestNumbers = 1 + kMaxRules;
static_assert(kRuleOffenderNumbers == 6 + kMaxRules, "the columns are the members");

// The result of checkPeer if the keys themselves are needed: nothing has changed, and `check`
// decides.
constexpr uint32_t kNeedsKeysAnswer = static_cast<uint32_t>(RuleAnswer::kNeedsText);
// SLOT_WORDS of lib/engine/rules.ts.
constexpr unsigned kSlotWords = sizeof(PeerSlot) / sizeof(int32_t);
static_assert(kSlotWords == 3, "JavaScript stores slots as three integers each");

// RULE_NUMBERS and RULE_SLOTS of lib/engine/rules.ts. Keeps their memory.
class RuleBuffers {
 public:
  // They are the arguments 2 and 3. False with a pending exception.
  bool open(const Napi::CallbackInfo& info) {
    const auto isArray = [&](size_t index, napi_typedarray_type type, size_t length) {
      if (!info[index].IsTypedArray()) return false;
      const auto array = info[index].As<Napi::TypedArray>();
      return array.TypedArrayType() == type && array.ElementLength() == length;
    };
    constexpr size_t kNumbers = sizeof(RuleNumbers) / sizeof(double);
    if (!isArray(2, napi_float64_array, kNumbers) ||
        !isArray(3, napi_int32_array, kMaxScopes * kSlotWords)) {
      Napi::TypeError::New(
          info.Env(), "the buffers must be a Float64Array of 168 and an Int32Array of 24 numbers")
          .ThrowAsJavaScriptException();
      return false;
    }
    numbersReference_ = Napi::Persistent(info[2].As<Napi::Object>());
    slotsReference_ = Napi::Persistent(info[3].As<Napi::Object>());
    numbers_ = reinterpret_cast<RuleNumbers*>(info[2].As<Napi::Float64Array>().Data());
    slots_ = reinterpret_cast<PeerSlot*>(info[3].As<Napi::Int32Array>().Data());
    return true;
  }

  RuleNumbers& numbers() const noexcept { return *numbers_; }
  PeerSlot* slots() const noexcept { return slots_; }

 private:
  Napi::ObjectReference numbersReference_;
  Napi::ObjectReference slotsReference_;
  RuleNumbers* numbers_ = nullptr;
  PeerSlot* slots_ = nullptr;
};

// RulesConfig of lib/engine/rules.ts, but for what the plan contains.
struct RulesConfigReader {
  // It is the first argument. False with a pending exception.
  bool read(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    object = info[0].IsObject() ? info[0].As<Napi::Object>() : Napi::Object::New(env);
    const Napi::Value single = object.Get("single");
    const Napi::Value peers = object.Get("maxPeers");
    scopes = single.IsArray() ? single.As<Napi::Array>().Length() : 0;
    if (scopes == 0 || scopes > kMaxScopes || !peers.IsNumber()) {
      Napi::TypeError::New(env, "the config must have 1 to 8 scopes and a number of peers")
          .ThrowAsJavaScriptException();
      return false;
    }
    for (uint32_t i = 0; i < scopes; ++i) {
      if (single.As<Napi::Array>().Get(i).ToBoolean()) singleScopes |= 1u << i;
    }
    maxPeers = peers.As<Napi::Number>().DoubleValue();
    plan = object.Get("plan");
    return true;
  }

  Napi::Object object;
  uint32_t scopes = 0;
  uint32_t singleScopes = 0;
  double maxPeers = 0;
  Napi::Value plan;
};

// The texts of a call. Creates only those that are added.
class KeyTexts {
 public:
  KeyTexts() noexcept = default;
  KeyTexts(const KeyTexts&) = delete;
  KeyTexts& operator=(const KeyTexts&) = delete;
  ~KeyTexts() noexcept {
    for (unsigned i = 0; i < count_; ++i) begin()[i].~KeyText();
  }

  KeyText* begin() noexcept { return reinterpret_cast<KeyText*>(storage_); }
  // At most kMaxScopes times.
  KeyText& add() noexcept { return *::new (static_cast<void*>(begin() + count_++)) KeyText; }

 private:
  alignas(KeyText) unsigned char storage_[kMaxScopes * sizeof(KeyText)];
  unsigned count_ = 0;
};

}  // namespace relay_limiter

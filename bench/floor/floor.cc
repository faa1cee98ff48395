// The crossing floor: what any native function costs that is given a key. It copies the same string
// and returns a number, nothing else.

#include <node_api.h>

namespace {

napi_value length(napi_env env, napi_callback_info info) {
  napi_value key;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &key, nullptr, nullptr);
  char16_t text[128];
  size_t units = 0;
  napi_get_value_string_utf16(env, key, text, 128, &units);
  napi_value result = nullptr;
  napi_create_uint32(env, static_cast<uint32_t>(units), &result);
  return result;
}

napi_value initialize(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "length", NAPI_AUTO_LENGTH, length, nullptr, &function);
  napi_set_named_property(env, exports, "length", function);
  return exports;
}

}  // namespace

NAPI_MODULE(floor, initialize)

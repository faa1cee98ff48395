// The crossing floor: the cost of any native function that receives a key. It copies the same
// string and returns a number, nothing else. Also a clock that allocates nothing: the collection of
// its garbage would count as a pause of the measured code.

#include <node_api.h>

#include <chrono>

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

// Writes the time in milliseconds to the array that data points to.
napi_value tick(napi_env env, napi_callback_info info) {
  void* time = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &time);
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  *static_cast<double*>(time) = std::chrono::duration<double, std::milli>(now).count();
  return nullptr;
}

napi_value initialize(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "length", NAPI_AUTO_LENGTH, length, nullptr, &function);
  napi_set_named_property(env, exports, "length", function);
  // Exported, and so in memory as long as the function.
  void* time = nullptr;
  napi_value buffer, array;
  napi_create_arraybuffer(env, sizeof(double), &time, &buffer);
  napi_create_typedarray(env, napi_float64_array, 1, buffer, 0, &array);
  napi_set_named_property(env, exports, "time", array);
  napi_create_function(env, "tick", NAPI_AUTO_LENGTH, tick, time, &function);
  napi_set_named_property(env, exports, "tick", function);
  return exports;
}

}  // namespace

NAPI_MODULE(floor, initialize)

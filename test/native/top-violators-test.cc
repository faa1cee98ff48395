// Compares TopViolators with a model that sorts all violators. .ci/run builds it with sanitizers.

#include "../../native/limiters/top-violators.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "require.h"

using relay_limiter::TopViolators;
using Violator = TopViolators::Violator;

namespace {

bool isWorse(const Violator& a, const Violator& b) {
  return a.violations != b.violations ? a.violations > b.violations : a.order < b.order;
}

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {}

  // Counts a violation of a new or a known violator. Half of the known ones are among the first 40,
  // so that there are ties and violators with many violations.
  void offend() {
    const bool isNew = all_.empty() || random_() % 2 == 0;
    if (isNew) all_.push_back({{random_(), random_()}, 0, ++order_});
    const size_t range = random_() % 2 == 0 ? all_.size() : std::min<size_t>(all_.size(), 40);
    Violator& violator = isNew ? all_.back() : all_[static_cast<size_t>(random_() % range)];
    ++violator.violations;
    top_.count(violator, violator.violations - 1, all_.size() - 1);
  }

  // Removes any violator or the worst one, as if a relay had disconnected it.
  void forgive() {
    if (all_.empty()) return;
    auto index = static_cast<size_t>(random_() % all_.size());
    if (random_() % 2 == 0) {
      const auto worst = std::min_element(all_.begin(), all_.end(), isWorse);
      index = static_cast<size_t>(worst - all_.begin());
    }
    top_.remove(all_[index]);
    all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  // Compares the list with the model. Returns whether all violators had to be counted again.
  bool compare() {
    const bool wasComplete = top_.isComplete(all_.size());
    if (!wasComplete) {
      top_.clear();
      for (size_t i = 0; i < all_.size(); ++i) top_.count(all_[i], 0, i);
    }
    std::vector<Violator> sorted = all_;
    std::sort(sorted.begin(), sorted.end(), isWorse);
    require(top_.size() == std::min(sorted.size(), TopViolators::kListed), "the list is complete");
    for (size_t i = 0; i < top_.size(); ++i) {
      require(top_[i].order == sorted[i].order, "the list holds the worst violators in order");
      require(top_[i].violations == sorted[i].violations, "the list holds their violations");
    }
    return !wasComplete;
  }

 private:
  std::mt19937_64 random_;
  std::vector<Violator> all_;
  TopViolators top_;
  uint64_t order_ = 0;
};

}  // namespace

int main() {
  unsigned recounts = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Model model(seed);
    std::mt19937_64 random(seed);
    for (int step = 0; step < 20'000; ++step) {
      // Floods of violations alternate with cleanups.
      const bool flood = step / 1000 % 3 != 2;
      if (random() % 8 == 0 ? !flood : flood) {
        model.offend();
      } else {
        model.forgive();
      }
      if (step % 3 == 0) recounts += model.compare();
    }
  }
  require(recounts > 20, "sometimes all violators must be counted again");
  require(recounts < 20 * 200, "all violators are seldom counted again");
  std::printf("top violators: the worst after 400,000 steps, %u recounts\n", recounts);
}

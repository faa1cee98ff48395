// TopViolators against a model that sorts everybody. .ci/run builds it with sanitizers.

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

  // Somebody new, or one who is known: rather one of a few, so that there are ties and favourites.
  void offend() {
    const bool isNew = all_.empty() || random_() % 2 == 0;
    if (isNew) all_.push_back({{random_(), random_()}, 0, ++order_});
    const size_t range = random_() % 2 == 0 ? all_.size() : std::min<size_t>(all_.size(), 40);
    Violator& violator = isNew ? all_.back() : all_[static_cast<size_t>(random_() % range)];
    ++violator.violations;
    top_.count(violator, all_.size() - 1);
  }

  // Anybody, or one of the worst, as when they are thrown out.
  void forgive() {
    if (all_.empty()) return;
    auto index = static_cast<size_t>(random_() % all_.size());
    if (random_() % 2 == 0) {
      const auto worst = std::min_element(all_.begin(), all_.end(), isWorse);
      index = static_cast<size_t>(worst - all_.begin());
    }
    top_.forget(all_[index]);
    all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  // Counts everybody again where that has to be, and says whether it had.
  bool compare() {
    const bool held = top_.holds(all_.size());
    if (!held) {
      top_.clear();
      for (size_t i = 0; i < all_.size(); ++i) top_.count(all_[i], i);
    }
    std::vector<Violator> sorted = all_;
    std::sort(sorted.begin(), sorted.end(), isWorse);
    require(top_.size() == std::min(sorted.size(), TopViolators::kNamed), "so many are named");
    for (size_t i = 0; i < top_.size(); ++i) {
      require(top_[i].order == sorted[i].order, "they are the worst, in order");
      require(top_[i].violations == sorted[i].violations, "their violations are right");
    }
    return !held;
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
      // Now a flood, now a cleanup.
      const bool flood = step / 1000 % 3 != 2;
      if (random() % 8 == 0 ? !flood : flood) {
        model.offend();
      } else {
        model.forgive();
      }
      if (step % 3 == 0) recounts += model.compare();
    }
  }
  require(recounts > 20, "sometimes everybody has to be counted again");
  require(recounts < 20 * 200, "but seldom");
  std::printf("top violators: the worst of 400,000 offences, %u recounts\n", recounts);
}

// RuleFile joins the file of a RuleLimiter or creates it, and replaces the rules in it.
#pragma once

#include <new>
#include <utility>

#include "lists.h"
#include "rule-config.h"
#include "rule-shards.h"
#include "size.h"

namespace relay_limiter {

// What a limiter is made of. The texts are those of lib/rules/shared-rules.ts.
struct SharedRulesConfig {
  uint32_t singleScopes;
  double maxPeers;
  const char* scopes;
  size_t scopesBytes;
  const char* text;
  size_t textBytes;
};

class RuleFile : public RuleShards {
 public:
  // Joins the file at `path`, or creates it with `secret` and `plan`. A limiter that joins must
  // adopt the rules of the file before any other call. False with an error.
  bool attach(const char* path, const Secret& secret, RulePlan&& plan,
              const SharedRulesConfig& config, SharedError& error) noexcept {
    if (!(config.maxPeers >= 1 && config.maxPeers <= SharedSize::kMostPeers)) {
      return error.fail("maxPeers of a shared limiter must be from 1 to %.0f, got %.15g",
                        SharedSize::kMostPeers, config.maxPeers);
    }
    shards_ = static_cast<uint32_t>(SharedSize(config.maxPeers).shards);
    for (SharedCursor& cursor : cursors_.scopes) cursor.region = &region_;
    cursors_.common.region = &region_;
    uint8_t own[kMaxScopes];
    findRooms(plan, config.singleScopes, own);
    if (!build(own, std::move(plan), config, error)) return false;
    BanList bans[kMaxScopes];
    const auto layoutFor = [&](const SharedLayout* file, SharedError& failure) {
      return describeFor(file, own, config, failure) ? &layout_ : nullptr;
    };
    const auto prepare = [&](SharedError& failure) { return found(config, bans, failure); };
    const auto collect = [&] { collectBans(bans); };
    if (!region_.attach(path, layoutFor, secret, prepare, collect, error)) return false;
    refreshSecret();
    return true;
  }

  // The number of rules of a scope that a record has room for.
  unsigned roomOf(unsigned scope) const noexcept { return rooms_[scope]; }
  // The rules of the file.

  // Copies them to config(). False with an error.
  bool readConfig(SharedError& error) noexcept { return config_.read(region_, error); }
  const RuleConfig& config() const noexcept { return config_; }
  // Whether a text is that with which the file was created.
  bool isFounding(const char* text, size_t bytes) const noexcept {
    uint64_t hash[2];
    hashText(text, bytes, hash);
    const RuleShape& rules = region_.layout().rules;
    return hash[0] == rules.foundingHash[0] && hash[1] == rules.foundingHash[1];
  }
  // Whether the rules of this process are those of the file.
  bool isCurrent() const noexcept {
    return version_ != 0 && region_.header().configVersion.load() == version_;
  }

  // Decides by the plan made from config() from now on. False if that makes no sense, or if there
  // is no memory.
  bool adopt(RulePlan&& plan) noexcept {
    if (!fits(plan) || !core_->adopt(std::move(plan), config_.history(), config_.historySize())) {
      return false;
    }
    setRules(config_.version(), config_.added());
    return true;
  }

  // Replaces the rules for all processes; `origins` and `added` as in RulePlan of
  // lib/engine/rules.ts. `error` is set if that is not possible; then nothing has changed.
  Entered publish(RulePlan&& plan, const uint16_t* origins, const uint16_t* added,
                  const RuleText& text, double now, SharedError& error) noexcept {
    if (!fits(plan)) {
      error.fail("the records of the shared file have no room for so many rules");
      return Entered::kYes;
    }
    Entered entered = Entered::kYes;
    const auto accept = [&](uint32_t shard) {
      // Another secret does not matter here.
      entered = admit(shard, Needs::kCurrentRules);
      return entered != Entered::kOutdated;
    };
    const LockedAll locked = lockEach(accept);
    if (locked == LockedAll::kStalled) return Entered::kStalled;
    if (locked == LockedAll::kDeclined) return entered;
    double latest = now;
    for (uint32_t i = 0; i <= shards_; ++i) latest = std::max(latest, headOf(i).latest);
    replace(std::move(plan), origins, added, text, core_->time(latest), error);
    unlockEach();
    return Entered::kYes;
  }

  // As SharedLimiter::adopt. False if a shard is stalled.
  bool adoptSecret(const Secret& secret) noexcept {
    if (secret == currentSecret()) return true;
    const auto isEmpty = [this](uint32_t shard) {
      pointAll(shard);
      return shard == shards_ || core_->isEmpty();
    };
    const LockedAll locked = lockEach(isEmpty);
    if (locked != LockedAll::kYes) return locked == LockedAll::kDeclined;
    region_.header().change(secret);
    refreshSecret();
    for (uint32_t i = 0; i <= shards_; ++i) headOf(i).secretVersion = secretVersion_;
    unlockEach();
    return true;
  }

  // The bytes of a scope's tables, without the names of offenders.
  uint64_t bytesOf(unsigned scope) const noexcept {
    return uint64_t{shards_} * (SharedRuleRecords::pageBytesOf(rooms_[scope]) +
                                sizeof(Page<Offender>) + sizeof(Page<Punishment>));
  }

 private:
  // The rooms of records in a file that this process creates.
  static void findRooms(const RulePlan& plan, uint32_t singleScopes,
                        uint8_t (&rooms)[kMaxScopes]) noexcept {
    std::fill_n(rooms, kMaxScopes, uint8_t{0});
    for (unsigned i = 0; i < plan.scopes; ++i) {
      const bool isSingle = (singleScopes >> i & 1) != 0;
      rooms[i] = SharedRuleRecords::roomFor(isSingle ? 0 : plan.slots[i]);
    }
  }

  // Makes layout_ that for a file that was found, whose founder may have had other rules, or for a
  // new one if `file` is nullptr. False with an error.
  bool describeFor(const SharedLayout* file, const uint8_t (&own)[kMaxScopes],
                   const SharedRulesConfig& config, SharedError& error) noexcept {
    uint8_t rooms[kMaxScopes];
    std::copy_n(own, kMaxScopes, rooms);
    const bool isSame = file != nullptr && file->rules.scopes == core_->plan().scopes &&
                        file->rules.singleScopes == config.singleScopes;
    for (unsigned i = 0; isSame && i < core_->plan().scopes; ++i) {
      if (SharedRuleRecords::isRoom(file->rules.rooms[i])) rooms[i] = file->rules.rooms[i];
    }
    return std::equal(rooms, rooms + kMaxScopes, rooms_) ||
           build(rooms, core_->takePlan(), config, error);
  }

  // Makes the limiter with records that have these rooms. False with an error.
  bool build(const uint8_t (&rooms)[kMaxScopes], RulePlan&& plan, const SharedRulesConfig& config,
             SharedError& error) noexcept {
    RulePlan own = std::move(plan);
    std::copy_n(rooms, kMaxScopes, rooms_);
    shape_ = ShardShape();
    core_.reset(new (std::nothrow) Core(SharedRuleStorages(cursors_, shape_, rooms_)));
    const double mostInShard = SharedSize(config.maxPeers).mostInShard;
    if (core_ == nullptr || !core_->start(std::move(own), config.singleScopes, mostInShard)) {
      return error.failForMemory("no memory for a limiter");
    }
    describe(config);
    return true;
  }

  void describe(const SharedRulesConfig& config) noexcept {
    layout_ = SharedLayout();
    layout_.setLimiter("RuleLimiter");
    layout_.addNumber("maxPeers", config.maxPeers);
    layout_.shards = shards_;
    layout_.extraHeads = 1;
    layout_.headBytes = roundUp(shape_.headBytes, 64);
    layout_.pageBytes = shape_.pageBytes;
    layout_.nameBytes = shape_.nameBytes;
    layout_.configBytes = kRuleConfigBytes;
    layout_.rules.scopes = core_->plan().scopes;
    layout_.rules.singleScopes = config.singleScopes;
    std::copy_n(rooms_, kMaxScopes, layout_.rules.rooms);
    hashText(config.scopes, config.scopesBytes, layout_.rules.scopesHash);
    hashText(config.text, config.textBytes, layout_.rules.foundingHash);
  }

  // Whether the records have room for the rules of a plan.
  bool fits(const RulePlan& plan) const noexcept {
    for (unsigned i = 0; i < plan.scopes; ++i) {
      if (!core_->isSingle(i) && plan.slots[i] > rooms_[i]) return false;
    }
    return true;
  }

  // Writes the first rules to a file that nobody else can see, and the bans of an earlier boot.
  bool found(const SharedRulesConfig& config, const BanList* bans, SharedError& error) noexcept {
    const Rates& rates = core_->rates();
    const size_t size = rates.historySize(0);
    const std::unique_ptr<double[]> history(new (std::nothrow) double[size]);
    if (history == nullptr) return error.failForMemory("no memory for a limiter");
    rates.writeHistory(0, history.get());
    constexpr uint16_t kNone[kMaxScopes] = {};
    constexpr uint32_t kFirst = 1;
    const RuleText text = {config.text, config.textBytes};
    if (!RuleConfig::reserve(region_, kFirst, text.bytes, size, error)) return false;
    RuleConfig::write(region_, kFirst, kNone, text, history.get(), size);
    region_.header().configVersion.store(kFirst);
    for (uint32_t i = 0; i <= shards_; ++i) {
      headOf(i).configVersion = kFirst;
      pointAll(i);
      if (i == shards_) {
        core_->clearSingles();
      } else {
        eachKeyed([&](unsigned scope) { core_->scope(scope).clear(); });
      }
    }
    setRules(kFirst, kNone);
    eachKeyed([&](unsigned scope) { restoreBans(scope, bans[scope]); });
    return true;
  }

  void restoreBans(unsigned scope, const BanList& bans) noexcept {
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
    const double now = monotonicSeconds();
    for (size_t i = 0; i < bans.size(); ++i) {
      char16_t text[KeyCopy::kMostUnits];
      const Key key = bans.keyOf(i, region_.header().secret(0), text);
      pointAll(region_.shardOf(key.fingerprint));
      SavedRuleOffender saved{0, 0, 0, bans[i].secondsLeft, kNaN, 0, {}};
      std::fill_n(saved.used, kMaxRules, kNaN);
      core_->scope(scope).restore(key, saved, now, kSample);
      cursors_.common.head->unfinished = 0;
    }
  }

  // Collects the bans of a file that nobody uses, which an earlier boot has left. The wall clock
  // says how much of them is left.
  void collectBans(BanList* bans) noexcept {
    const double now = wallMilliseconds() / 1000 - region_.header().wallOffset;
    for (uint32_t shard = 0; shard < shards_; ++shard) {
      repair(shard);
      eachKeyed([&](unsigned i) {
        if (!bans[i].reserve(Page<Punishment>::kCapacity)) return;
        core_->scope(i).offenders().eachBan(
            now, [&](const Punishment& punishment, const StoredKey& key) {
              if (!punishment.isIntact()) return;
              const Ban ban{punishment.fingerprint, punishment.banEnd, punishment.order};
              bans[i].push(ban, key, punishment.banEnd - now);
            });
      });
    }
    eachKeyed([&](unsigned i) { bans[i].sortByBeginning(); });
  }

  // Replaces the rules while all shards are locked. All that may fail comes first. The rules are in
  // force with the version in the header; if the process ends before each shard has it, catchUp()
  // does the rest.
  void replace(RulePlan&& plan, const uint16_t* origins, const uint16_t* added,
               const RuleText& text, double now, SharedError& error) noexcept {
    const uint32_t version = version_ + 1 == 0 ? 2 : version_ + 1;
    const size_t most = std::min(core_->rates().mostHistoryAfter(plan), kMostRuleHistory);
    const std::unique_ptr<double[]> history(new (std::nothrow) double[most]);
    if (!RuleConfig::reserve(region_, version, text.bytes, most, error)) return;
    if (history == nullptr || !core_->updatePlan(std::move(plan), origins, added, now)) {
      error.failForMemory("no memory for the rules");
      return;
    }
    const Rates& rates = core_->rates();
    unsigned skipped = 0;
    while (rates.historySize(skipped) > most) ++skipped;
    rates.writeHistory(skipped, history.get());
    RuleConfig::write(region_, version, added, text, history.get(), rates.historySize(skipped));
    region_.header().configVersion.store(version);
    setRules(version, added);
    for (uint32_t i = 0; i <= shards_; ++i) catchUp(i);
    // Without the changes that were left out, the process knows more than the file says.
    if (skipped > 0) version_ = 0;
  }

  // Locks all shards and the head of single scopes, as lockAll().
  template <class Accept>
  LockedAll lockEach(Accept&& accept) noexcept {
    return lockAll(
        shards_ + 1, Patience::kLong,
        [this](uint32_t shard, Patience patience) { return lock(shard, patience); },
        [this](uint32_t shard) { unlock(shard); }, accept);
  }
  void unlockEach() noexcept {
    for (uint32_t i = 0; i <= shards_; ++i) unlock(i);
  }

  uint8_t rooms_[kMaxScopes] = {};
  RuleConfig config_;
};

}  // namespace relay_limiter

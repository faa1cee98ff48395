// SharedRules is a RuleLimiter in a shared file, as one process uses it. A check locks the shards
// of all its keys in ascending order, the head of single scopes last, and decides; every other call
// holds one lock at a time. Only an update and another secret lock all.
//
// The file has the rules by which all processes decide. A call that finds under its lock that this
// process has others does nothing and returns kOutdated: read the rules, adopt() them, and repeat
// it. A call that finds a shard stalled returns kStalled, and stalledBy() says which process holds
// it.
#pragma once

#include <memory>
#include <new>
#include <utility>

#include "../limiters/rules/limiter.h"
#include "lists.h"
#include "rule-config.h"
#include "rule-storage.h"
#include "size.h"

namespace relay_limiter {

static_assert(kMaxScopes == RuleShape::kMostScopes, "the file has a place for each scope");

// Whether a call must have the rules of the file. Calls that only read keys, violations and bans
// need not.
enum class Needs { kCurrentRules, kAnyRules };

// How far a call has come to the shards that it needs.
enum class Entered { kYes, kOutdated, kStalled, kOldSecret };

// What a limiter is made of. The texts are those of lib/rules/shared-rules.ts.
struct SharedRulesConfig {
  uint32_t singleScopes;
  double maxPeers;
  const char* scopes;
  size_t scopesBytes;
  const char* text;
  size_t textBytes;
};

class SharedRules {
 public:
  using Core = BasicRuleLimiter<SharedRuleStorages>;
  using Scope = typename Core::Scope;
  using ScopeKey = typename Core::ScopeKey;

  SharedRules() noexcept = default;
  SharedRules(const SharedRules&) = delete;
  SharedRules& operator=(const SharedRules&) = delete;

  // Joins the file at `path`, or creates it with `secret` and `plan`. A limiter that joins must
  // adopt the rules of the file before any other call. False with an error.
  bool attach(const char* path, const Secret& secret, RulePlan&& plan,
              const SharedRulesConfig& config, SharedError& error) noexcept {
    if (!(config.maxPeers >= 1 && config.maxPeers <= SharedSize::kMostPeers)) {
      return error.fail("maxPeers of a shared limiter must be from 1 to %.0f, got %.15g",
                        SharedSize::kMostPeers, config.maxPeers);
    }
    const SharedSize size(config.maxPeers);
    shards_ = static_cast<uint32_t>(size.shards);
    setRooms(path, plan, config);
    core_.reset(new (std::nothrow) Core(SharedRuleStorages(cursors_, shape_, rooms_)));
    if (core_ == nullptr || !core_->start(std::move(plan), config.singleScopes, size.mostInShard)) {
      return error.failForMemory("no memory for a limiter");
    }
    describe(config);
    for (SharedCursor& cursor : cursors_.scopes) cursor.region = &region_;
    cursors_.common.region = &region_;
    BanList bans[kMaxScopes];
    const auto prepare = [&](SharedError& failure) { return found(config, bans, failure); };
    const auto collect = [&] { collectBans(bans); };
    if (!region_.attach(path, layout_, secret, prepare, collect, error)) return false;
    refreshSecret();
    return true;
  }

  void detach() noexcept { region_.detach(); }

  SharedRegion& region() noexcept { return region_; }
  const SharedLayout& layout() const noexcept { return layout_; }
  // The secret as of the last call that needed it. Another process may have changed it: a call with
  // the text of a key finds out, and makes the fingerprint again.
  const Secret& secret() const noexcept { return secret_; }
  // The secret of the file, for what has only fingerprints.
  const Secret& currentSecret() noexcept {
    refreshSecret();
    return secret_;
  }
  uint32_t secretVersion() const noexcept { return secretVersion_; }
  uint32_t shards() const noexcept { return shards_; }
  const RulePlan& plan() const noexcept { return core_->plan(); }
  uint32_t singleScopes() const noexcept { return core_->singleScopes(); }
  // The number of rules of a scope that a record has room for.
  unsigned roomOf(unsigned scope) const noexcept { return rooms_[scope]; }
  // The process that held the shard of the last call that found one stalled; 0 if it is unknown.
  uint32_t stalledBy() const noexcept { return stalledBy_; }

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
  // lib/engine/rules.ts. `error` is set if there is no memory; then nothing has changed.
  Entered publish(RulePlan&& plan, const uint16_t* origins, const uint16_t* added,
                  const RuleText& text, double now, SharedError& error) noexcept {
    if (!fits(plan)) {
      error.fail("the records of the shared file have no room for so many rules");
      return Entered::kYes;
    }
    uint32_t locked = 0;
    const Entered entered = enterAll(locked);
    if (entered == Entered::kYes) {
      double latest = now;
      for (uint32_t i = 0; i <= shards_; ++i) latest = std::max(latest, headOf(i).latest);
      replace(std::move(plan), origins, added, text, core_->time(latest), error);
    }
    leaveAll(locked);
    return entered;
  }

  // Checks.

  // The scopes whose keys a call needs. `mask` has the scopes that are to be asked.
  uint32_t keyedScopes(uint32_t mask, unsigned program, double now) const noexcept {
    return core_->keyedScopes(mask, program, now);
  }
  // The single scopes that a check asks.
  uint32_t askedSingles(uint32_t mask, unsigned program) const noexcept {
    return mask & core_->singleScopes() & core_->plan().asks[program];
  }

  // Calls use(core, keys, scopes, time) in the shards of the keys of `keyed`, which have their
  // texts, and of `singles`, and waits for these shards with `patience`. Writes the slots of the
  // keys that have one.
  template <class Use>
  RuleAnswer callByKeys(ScopeKey* keys, uint32_t keyed, uint32_t singles, double now,
                        Patience patience, Use&& use) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      Visit visit(*this, Needs::kCurrentRules, patience);
      eachBit(keyed, [&](unsigned i) { visit.add(i, region_.shardOf(keys[i].key.fingerprint)); });
      eachBit(singles, [&](unsigned i) { visit.add(i, shards_); });
      const Entered entered = visit.enter();
      if (entered == Entered::kOldSecret) {
        visit.end();
        eachBit(keyed, [&](unsigned i) {
          Key& key = keys[i].key;
          key.fingerprint = fingerprintOf(key.text, key.length, secret_);
        });
        continue;
      }
      if (entered != Entered::kYes) return answerOf(entered);
      PeerSlot* slots[kMaxScopes];
      eachBit(keyed, [&](unsigned i) {
        slots[i] = keys[i].slot;
        keys[i].slot = nullptr;
      });
      const RuleAnswer answer = use(*core_, keys, keyed | singles, visit.time(now));
      eachBit(keyed, [&](unsigned i) {
        if (slots[i] == nullptr) return;
        *slots[i] = core_->scope(i).records().slotOf(keys[i].key.fingerprint);
      });
      return answer;
    }
    return answerOf(giveUp());
  }

  // Checks a peer at its slots. kNeedsText if a record is not there.
  RuleAnswer checkAt(const PeerSlot* slots, uint32_t keyed, uint32_t singles, unsigned program,
                     double now, RuleNumbers& numbers) noexcept {
    Visit visit(*this, Needs::kCurrentRules, Patience::kShort);
    bool areSlots = true;
    eachBit(keyed, [&](unsigned i) {
      const size_t shard = slots[i].page();
      areSlots = areSlots && shard < shards_;
      if (areSlots) visit.add(i, static_cast<uint32_t>(shard));
    });
    if (!areSlots) return RuleAnswer::kNeedsText;
    eachBit(singles, [&](unsigned i) { visit.add(i, shards_); });
    const Entered entered = visit.enter();
    if (entered != Entered::kYes) return answerOf(entered);
    ScopeKey keys[kMaxScopes];
    eachBit(keyed, [&](unsigned i) {
      ScopeKey& key = keys[i];
      key = {{{0, 0}, nullptr, 0}, nullptr, nullptr};
      key.state = core_->scope(i).records().at(slots[i], key.key.fingerprint);
      areSlots = areSlots && key.state != nullptr;
    });
    if (!areSlots) return RuleAnswer::kNeedsText;
    return core_->check(keys, keyed | singles, program, visit.time(now), numbers);
  }

  // Fetches the memory that a call of a peer will read first.
  void prepare(const Fingerprint& fingerprint) const noexcept {
    prefetch(region_.headAt(region_.shardOf(fingerprint)));
  }

  // Calls use(scope, key, time) in the shard of a peer. The key has its text, or is a fingerprint
  // under the current secret.
  template <class Use>
  Entered withPeer(Needs needs, unsigned scope, Key key, double now, Use&& use) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      Visit visit(*this, needs, Patience::kLong);
      visit.add(scope, region_.shardOf(key.fingerprint));
      const Entered entered = visit.enter();
      if (entered == Entered::kOldSecret && key.text != nullptr) {
        visit.end();
        key.fingerprint = fingerprintOf(key.text, key.length, secret_);
        continue;
      }
      if (entered == Entered::kYes) use(core_->scope(scope), key, visit.time(now));
      return entered;
    }
    return giveUp();
  }

  // Calls use(core, time) with the state of all single scopes.
  template <class Use>
  Entered withSingles(Needs needs, double now, Use&& use) noexcept {
    return withShard(needs, Patience::kLong, shards_, now, [&](double time) { use(*core_, time); });
  }

  // Calls use(core) for each shard and for the head of single scopes, whose values of other scopes
  // are zeros, by the current rules. kOutdated may come after some calls.
  template <class Use>
  Entered eachHead(Use&& use) noexcept {
    for (uint32_t shard = 0; shard <= shards_; ++shard) {
      const Entered entered =
          withShard(Needs::kCurrentRules, Patience::kLong, shard, 0, [&](double) { use(*core_); });
      if (entered != Entered::kYes) return entered;
    }
    return Entered::kYes;
  }

  // Calls use(time) for a shard.
  template <class Use>
  Entered withShard(Needs needs, Patience patience, uint32_t shard, double now,
                    Use&& use) noexcept {
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      Visit visit(*this, needs, patience);
      visit.addAll(shard);
      const Entered entered = visit.enter();
      if (entered == Entered::kOldSecret) {
        visit.end();
        continue;
      }
      if (entered == Entered::kYes) use(visit.time(now));
      return entered;
    }
    return giveUp();
  }

  // As SharedLimiter::cleanup.
  uint64_t cleanup(double maxIdle, double budgetMs, double now, bool& isOutdated) noexcept {
    const bool isBounded = budgetMs < kInfinity;
    isOutdated = false;
    if (isBounded && !beginCleaning()) return 0;
    const double deadline = isBounded ? monotonicSeconds() + budgetMs / 1000 : kInfinity;
    if (!isBounded) nextCleaned_ = 0;
    uint64_t removed = 0;
    do {
      const auto clean = [&](double time) {
        eachKeyed([&](unsigned i) {
          for (unsigned pass = 0; pass < Scope::kPasses; ++pass) {
            uint64_t page = 0;
            core_->scope(i).sweep(pass, page, maxIdle, time, removed);
          }
        });
      };
      const Entered entered =
          withShard(Needs::kCurrentRules, Patience::kShort, nextCleaned_, now, clean);
      isOutdated = entered == Entered::kOutdated;
      if (isOutdated) break;
      ++nextCleaned_;
    } while (nextCleaned_ < shards_ && (!isBounded || monotonicSeconds() < deadline));
    if (nextCleaned_ >= shards_) nextCleaned_ = 0;
    if (isBounded) region_.header().cleaner.store(0);
    return removed;
  }
  bool isCleaning() const noexcept { return nextCleaned_ > 0; }

  Entered clear() noexcept {
    for (uint32_t shard = 0; shard < shards_; ++shard) {
      const Entered entered = withShard(Needs::kAnyRules, Patience::kLong, shard, 0, [&](double) {
        eachKeyed([&](unsigned i) { core_->scope(i).clear(); });
      });
      if (entered != Entered::kYes) return entered;
    }
    return withSingles(Needs::kAnyRules, 0, [](Core& core, double) { core.clearSingles(); });
  }

  // As SharedLimiter::adopt. False if a shard is stalled.
  bool adoptSecret(const Secret& secret) noexcept {
    if (secret == currentSecret()) return true;
    uint32_t locked = 0;
    bool isEmpty = true;
    for (; locked <= shards_ && isEmpty; ++locked) {
      if (!lock(locked, Patience::kLong)) break;
      pointAll(locked);
      if (locked < shards_) isEmpty = core_->isEmpty();
    }
    const bool hasAll = locked == shards_ + 1;
    if (hasAll && isEmpty) {
      SharedHeader& header = region_.header();
      const uint32_t version = header.secretVersion.load() + 1;
      header.secrets[version & 1] = secret;
      keepOrderOfWrites();
      header.secretVersion.store(version);
      for (uint32_t i = 0; i <= shards_; ++i) headOf(i).secretVersion = version;
      refreshSecret();
    }
    leaveAll(locked);
    return hasAll || !isEmpty;
  }

  // A scope with records, while a call uses it.
  Scope& scope(unsigned index) noexcept { return core_->scope(index); }
  // The bytes of a scope's tables, without the names of offenders.
  uint64_t bytesOf(unsigned scope) const noexcept {
    return uint64_t{shards_} * (SharedRuleRecords::pageBytesOf(rooms_[scope]) +
                                sizeof(Page<Offender>) + sizeof(Page<Punishment>));
  }
  bool isSingle(unsigned scope) const noexcept { return core_->isSingle(scope); }

  // Calls use(scope) for each scope with records.
  template <class Use>
  void eachKeyed(Use&& use) const noexcept {
    for (unsigned i = 0; i < core_->plan().scopes; ++i) {
      if (!core_->isSingle(i)) use(i);
    }
  }

 private:
  // Locks shards in ascending order, each once, and points the cursor of each scope to its own.
  class Visit {
   public:
    Visit(SharedRules& rules, Needs needs, Patience patience) noexcept
        : rules_(rules), needs_(needs), patience_(patience) {}
    ~Visit() noexcept { end(); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    void add(unsigned scope, uint32_t shard) noexcept {
      ofScope_[scope] = shard;
      scopes_ |= 1u << scope;
      unsigned at = count_;
      for (; at > 0 && shards_[at - 1] >= shard; --at) {
        if (shards_[at - 1] == shard) return;
      }
      for (unsigned i = count_++; i > at; --i) shards_[i] = shards_[i - 1];
      shards_[at] = shard;
    }

    void addAll(uint32_t shard) noexcept {
      for (unsigned i = 0; i < kMaxScopes; ++i) add(i, shard);
    }

    Entered enter() noexcept {
      if (count_ == 0) shards_[count_++] = rules_.shards_;
      for (; locked_ < count_; ++locked_) {
        if (!rules_.lock(shards_[locked_], patience_)) return Entered::kStalled;
      }
      for (unsigned i = 0; i < count_; ++i) {
        if (!rules_.accepts(shards_[i], needs_)) return Entered::kOutdated;
        ShardHead& head = rules_.headOf(shards_[i]);
        if (head.secretVersion != rules_.secretVersion_) return rules_.renewSecret(head);
      }
      eachBit(scopes_, [&](unsigned i) { rules_.point(rules_.cursors_.scopes[i], ofScope_[i]); });
      rules_.point(rules_.cursors_.common, shards_[0]);
      return Entered::kYes;
    }

    // The latest of `now` and the instants of the shards.
    double time(double now) noexcept {
      double time = now;
      for (unsigned i = 0; i < count_; ++i) {
        const double latest = rules_.headOf(shards_[i]).latest;
        if (time < latest) time = latest;
      }
      time = rules_.core_->time(time);
      for (unsigned i = 0; i < count_; ++i) rules_.headOf(shards_[i]).latest = time;
      return time;
    }

    void end() noexcept {
      while (locked_ > 0) rules_.unlock(shards_[--locked_]);
    }

   private:
    SharedRules& rules_;
    const Needs needs_;
    const Patience patience_;
    uint32_t scopes_ = 0;
    unsigned count_ = 0;
    unsigned locked_ = 0;
    uint32_t ofScope_[kMaxScopes];
    uint32_t shards_[kMaxScopes + 1];
  };

  static RuleAnswer answerOf(Entered entered) noexcept {
    if (entered == Entered::kOutdated) return RuleAnswer::kOutdated;
    return entered == Entered::kStalled ? RuleAnswer::kStalled : RuleAnswer::kNeedsText;
  }

  template <class Use>
  static void eachBit(uint32_t bits, Use&& use) noexcept {
    for (; bits != 0; bits &= bits - 1) use(lowestBit(bits));
  }

  // Those of the file, if it can be used: its founder may have had other rules.
  void setRooms(const char* path, const RulePlan& plan, const SharedRulesConfig& config) noexcept {
    for (unsigned i = 0; i < plan.scopes; ++i) {
      const bool isSingle = (config.singleScopes >> i & 1) != 0;
      rooms_[i] = SharedRuleRecords::roomFor(isSingle ? 0 : plan.slots[i]);
    }
    SharedRegion file;
    SharedError ignored;
    if (file.inspect(path, ignored) != SharedFile::Opened::kYes) return;
    const RuleShape rules = file.layout().rules;
    const bool isSame = rules.scopes == plan.scopes && rules.singleScopes == config.singleScopes;
    for (unsigned i = 0; isSame && i < plan.scopes; ++i) {
      if (SharedRuleRecords::isRoom(rules.rooms[i])) rooms_[i] = rules.rooms[i];
    }
  }

  void describe(const SharedRulesConfig& config) noexcept {
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

  // Whether a call may use a locked shard by the rules of this process.
  bool accepts(uint32_t shard, Needs needs) noexcept {
    if (needs == Needs::kAnyRules) return fits_;
    return version_ != 0 && (headOf(shard).configVersion == version_ || catchUp(shard));
  }

  // Completes an update whose process has ended before it came to this shard. The version of the
  // header is the one that counts: it changes only while all shards are locked. A damaged head gets
  // it as well. False if this process has other rules.
  RELAY_LIMITER_NOINLINE bool catchUp(uint32_t shard) noexcept {
    if (region_.header().configVersion.load() != version_) return false;
    pointAll(shard);
    core_->replaceCounts(added_);
    keepOrderOfWrites();
    headOf(shard).configVersion = version_;
    return true;
  }

  // A call that has found another secret at each attempt. All shards are locked while the secret
  // changes, so the file is damaged; nobody knows the holder of such a shard.
  Entered giveUp() noexcept {
    stalledBy_ = 0;
    return Entered::kStalled;
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
    if (!fits(core_->plan())) return error.fail("the shared file was replaced meanwhile");
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
      const Key key = bans[i].key.key(bans[i].fingerprint, text);
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

  // This process has the rules of a version, which have replaced those of the slots `added`.
  void setRules(uint32_t version, const uint16_t* added) noexcept {
    version_ = version;
    std::copy_n(added, kMaxScopes, added_);
    fits_ = true;
  }

  // Locks all shards and the head of single scopes, and counts them in `locked`.
  Entered enterAll(uint32_t& locked) noexcept {
    if (version_ == 0) return Entered::kOutdated;
    for (; locked <= shards_; ++locked) {
      if (!lock(locked, Patience::kLong)) return Entered::kStalled;
      if (!accepts(locked, Needs::kCurrentRules)) {
        ++locked;
        return Entered::kOutdated;
      }
    }
    return Entered::kYes;
  }

  void leaveAll(uint32_t locked) noexcept {
    while (locked > 0) unlock(--locked);
  }

  // The head with the number `shards_` is that of single scopes.
  ShardHead& headOf(uint32_t shard) const noexcept {
    return *reinterpret_cast<ShardHead*>(region_.headAt(shard));
  }

  void point(SharedCursor& cursor, uint32_t shard) noexcept {
    cursor.head = &headOf(shard);
    cursor.shard = shard;
  }

  void pointAll(uint32_t shard) noexcept {
    for (SharedCursor& cursor : cursors_.scopes) point(cursor, shard);
    point(cursors_.common, shard);
  }

  // Reads the secret of the file. Unless the file is damaged, that is the one of all shards: while
  // it changes, all are locked.
  Entered renewSecret(ShardHead& head) noexcept {
    refreshSecret();
    head.secretVersion = secretVersion_;
    return Entered::kOldSecret;
  }

  // Locks a shard. False if it is stalled.
  bool lock(uint32_t shard, Patience patience) noexcept {
    const Locked locked = headOf(shard).lock.lock(region_, patience);
    return locked == Locked::kYes || lockSlowly(shard, locked);
  }

  RELAY_LIMITER_NOINLINE bool lockSlowly(uint32_t shard, Locked locked) noexcept {
    ShardHead& head = headOf(shard);
    if (locked == Locked::kStalled) {
      stalledBy_ = region_.processOf(head.lock.holder());
      return false;
    }
    if (shard < shards_) repair(shard);
    head.unfinished = 0;
    head.secretVersion = region_.header().secretVersion.load();
    // The holder may have ended in an update: then catchUp() completes it.
    if (head.configVersion != region_.header().configVersion.load()) head.configVersion = 0;
    return true;
  }

  void repair(uint32_t shard) noexcept {
    pointAll(shard);
    eachKeyed([&](unsigned i) { core_->scope(i).repair(); });
  }

  void unlock(uint32_t shard) noexcept {
    ShardHead& head = headOf(shard);
    if (head.unfinished != 0) head.unfinished = 0;
    head.lock.unlock();
  }

  void refreshSecret() noexcept {
    secretVersion_ = region_.header().secretVersion.load();
    secret_ = region_.header().secret(secretVersion_);
  }

  bool beginCleaning() noexcept {
    std::atomic<uint64_t>& cleaner = region_.header().cleaner;
    uint64_t other = cleaner.load();
    if (other != 0 && region_.isAlive(other)) return false;
    return cleaner.compare_exchange_strong(other, region_.nextWord());
  }

  static constexpr unsigned kMostAttempts = 100;

  uint32_t shards_ = 0;
  SharedLayout layout_;
  ShardShape shape_;
  SharedRegion region_;
  RuleCursors cursors_;
  uint8_t rooms_[kMaxScopes] = {};
  std::unique_ptr<Core> core_;
  RuleConfig config_;
  // The version of the rules of this process; 0 if it must read those of the file first.
  uint32_t version_ = 0;
  // For each scope the slots to which these rules gave another rule.
  uint16_t added_[kMaxScopes] = {};
  // Whether the file has room for the rules of this process.
  bool fits_ = false;
  // Copies of what the file says.
  Secret secret_ = {};
  uint32_t secretVersion_ = 0;
  uint32_t stalledBy_ = 0;
  uint32_t nextCleaned_ = 0;
};

}  // namespace relay_limiter

// SharedRegion is the attachment of one limiter to a shared file: the first limiter creates the
// file, the others join. It gives the limiter a slot, which says to the others whether it is alive,
// and the addresses of the shards. One thread uses it.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "creation-lock.h"
#include "layout.h"

namespace relay_limiter {

class SharedRegion {
 public:
  SharedRegion() noexcept = default;
  ~SharedRegion() noexcept { detach(); }
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;

  // Joins the file at `path`. If there is none, creates it with `secret`, and calls prepare(error)
  // when all of it is mapped and no other process can see it; that returns false with an error.
  // Replaces a file of an earlier boot: calls collect() while that is mapped, and then
  // prepare(error) for the new one. layoutFor(found, error) returns the layout for a file that is
  // found, or for a new one if `found` is nullptr; nullptr with an error. False with an error.
  template <class LayoutFor, class Prepare, class Collect>
  bool attach(const char* path, LayoutFor&& layoutFor, const Secret& secret, Prepare&& prepare,
              Collect&& collect, SharedError& error) noexcept {
    if (!isSupported(error) || !copyPath(path, error)) return false;
    // A file that we found may be gone when we join it, and the other way round.
    for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
      CreationLock creation;
      const SharedFile::Opened opened = openOrLock(creation, error);
      if (opened == SharedFile::Opened::kUnsafe) return false;
      const Progress progress = opened == SharedFile::Opened::kYes
                                    ? join(layoutFor, prepare, collect, error)
                                    : found(layoutFor, secret, prepare, error);
      if (progress == Progress::kDone && takeSlot()) {
        header().wallOffset = wallOffsetNow();
        return true;
      }
      if (progress == Progress::kDone) {
        file_.close();
        return error.fail("the shared file %s has %u limiters already, the maximum", path,
                          kAttachSlots);
      }
      if (progress == Progress::kFailed) {
        file_.close();
        return false;
      }
      sleepMicroseconds(1000);
    }
    return error.fail("the shared file %s is removed again and again", path);
  }

  void detach() noexcept {
    if (isAttached()) {
      AttachSlot& slot = header().slots[slot_];
      slot.owner.store(AttachSlot::ownerOf(AttachSlot::generationOf(slot.owner.load()), 0));
      file_.unlockByte(byteOf(slot_));
    }
    file_.close();
    std::free(path_);
    path_ = nullptr;
    slot_ = kNoSlot;
  }

  bool isAttached() const noexcept { return slot_ != kNoSlot; }
  // Whether newcomers get another file.
  bool isDetached() const noexcept {
    return header().isRemoved.load(std::memory_order_relaxed) != 0 || !file_.isAt(path_);
  }
  const char* path() const noexcept { return path_; }
  SharedHeader& header() const noexcept { return *reinterpret_cast<SharedHeader*>(file_.bytes()); }
  const SharedLayout& layout() const noexcept { return header().founding.layout; }
  SharedFile& file() noexcept { return file_; }
  unsigned char* bytes() const noexcept { return file_.bytes(); }

  // The number of the shard that has the records of a peer.
  uint32_t shardOf(const Fingerprint& fingerprint) const noexcept {
    return static_cast<uint32_t>((fingerprint.low >> 32) * shards_ >> 32);
  }
  uint64_t shards() const noexcept { return shards_; }
  unsigned char* headAt(uint32_t shard) const noexcept { return heads_ + shard * headBytes_; }
  // The names of a table, those of one shard after those of another. In each shard, names of
  // earlier tables have `before` bytes.
  size_t namesAt(size_t before) const noexcept {
    return namesAt_ + before * static_cast<size_t>(shards_);
  }
  // Where the two places for rules begin; see rule-config.h.
  size_t configAt() const noexcept { return configAt_; }
  // The pages of a table, one for each shard. In each shard, pages of earlier tables have `before`
  // bytes.
  unsigned char* pagesAt(size_t before) const noexcept { return pages_ + before * shards_; }

  // The half of a word that names this limiter. Never 0.
  uint64_t name() const noexcept { return word_; }
  // A word for a lock: it names this limiter and differs from the last 2^32 of it.
  uint64_t nextWord() noexcept { return word_ | ++sequence_; }

  // Whether the limiter that a word names is still attached.
  bool isAlive(uint64_t word) const noexcept {
    const uint32_t slot = slotOf(word);
    if (slot >= kAttachSlots) return false;
    const uint64_t owner = header().slots[slot].owner.load();
    if ((AttachSlot::generationOf(owner) & 0xffff) != (word >> 32 & 0xffff)) return false;
    return isTaken(slot, owner);
  }

  // The process of a lock word; 0 if that is unknown.
  uint32_t processOf(uint64_t word) const noexcept {
    const uint32_t slot = slotOf(word);
    return slot < kAttachSlots ? AttachSlot::pidOf(header().slots[slot].owner.load()) : 0;
  }

  // Calls use(pid, since) for each attached limiter.
  template <class Use>
  void eachAttached(Use&& use) const noexcept {
    for (uint32_t i = 0; i < kAttachSlots; ++i) {
      const AttachSlot& slot = header().slots[i];
      const uint64_t owner = slot.owner.load();
      if (AttachSlot::pidOf(owner) == 0) continue;
      if (i == slot_ || isTaken(i, owner)) use(AttachSlot::pidOf(owner), slot.since);
    }
  }

  // Opens a file to look at it, without a slot. kUnsafe with an error.
  SharedFile::Opened inspect(const char* path, SharedError& error) noexcept {
    if (!isSupported(error)) return SharedFile::Opened::kUnsafe;
    const SharedFile::Opened opened = file_.open(path, error);
    if (opened != SharedFile::Opened::kYes) return opened;
    if (copyPath(path, error) && openHeader(error)) {
      readLayout(layout());
      return opened;
    }
    file_.close();
    return SharedFile::Opened::kUnsafe;
  }

  // Removes a file that this package has created, of whatever version and in whatever condition.
  // False if the file does not exist (`error` stays unset), or with an error. A file of another
  // layout, or with a damaged header, stays while limiters are attached to it. Systems without
  // locks of bytes cannot tell whether any are, and remove it.
  static bool remove(const char* path, SharedError& error) noexcept {
    SharedRegion region;
    if (!isSupported(error) || !region.copyPath(path, error)) return false;
    SharedFile& file = region.file_;
    if (file.open(path, error) != SharedFile::Opened::kYes) return false;
    SharedError reason;
    if (!file.map(sizeof SharedHeader::kMagic, reason) ||
        !SharedHeader::hasMagic(file.bytes(), reason)) {
      return error.fail("the shared file %s cannot be removed: %s", path, reason.message);
    }
    SharedHeader* const header = region.intactHeader(reason);
    if (!region.lock(header, error)) return false;
#if defined(_WIN32)
    constexpr bool kIsWindows = true;
#else
    constexpr bool kIsWindows = false;
#endif
    if ((kIsWindows || header == nullptr) && region.isUsed(header)) {
      return error.fail("the shared file %s is in use", path);
    }
    bool removed = false;
    if (file.isAt(path)) {
      if (header != nullptr) header->isRemoved.store(1);
      removed = SharedFile::unlink(path, error);
      if (header != nullptr && error) header->isRemoved.store(0);
    }
    file.unlock();
    return removed;
  }

 private:
  enum class Progress { kDone, kAgain, kFailed };

  static constexpr unsigned kMostAttempts = 1000;
  // How long a limiter waits for one that joins or removes the file.
  static constexpr double kJoiningSeconds = 5;
  static constexpr uint32_t kNoSlot = kAttachSlots;
  // The byte of the file that is locked while a slot is taken. The same in all layouts.
  static constexpr uint32_t byteOf(uint32_t slot) noexcept { return slot + 1; }
  // A lock word: the slot counted from 1, 16 bits of its generation, and a sequence number.
  static constexpr uint32_t slotOf(uint64_t word) noexcept {
    return static_cast<uint32_t>(word >> 48) - 1;
  }

  static bool isSupported(SharedError& error) noexcept {
    return sizeof(void*) >= 8 || error.fail("shared tables need a system with 64-bit addresses");
  }

  // Opens the file. If it does not exist, waits while another process creates it, for as long as
  // for a process that joins, and looks again. So one process creates the file, and the others
  // wait.
  SharedFile::Opened openOrLock(CreationLock& creation, SharedError& error) noexcept {
    const double began = monotonicSeconds();
    bool isLocked = false;
    for (;;) {
      const SharedFile::Opened opened = file_.open(path_, error);
      if (opened != SharedFile::Opened::kAbsent) creation.unlock();
      if (opened != SharedFile::Opened::kAbsent || isLocked) return opened;
      isLocked = creation.tryLock(path_) || monotonicSeconds() - began >= kJoiningSeconds;
      if (!isLocked) sleepMicroseconds(1000);
    }
  }

  template <class LayoutFor, class Prepare>
  Progress found(LayoutFor&& layoutFor, const Secret& secret, Prepare&& prepare,
                 SharedError& error) noexcept {
    if (!create(layoutFor, secret, prepare, error)) return Progress::kFailed;
    return progressOf(file_.link(path_, error), error);
  }

  // Creates a file without its path.
  template <class LayoutFor, class Prepare>
  bool create(LayoutFor&& layoutFor, const Secret& secret, Prepare&& prepare,
              SharedError& error) noexcept {
    const SharedLayout* const layout = layoutFor(nullptr, error);
    if (layout == nullptr || !file_.create(path_, static_cast<size_t>(layout->totalBytes()),
                                           static_cast<size_t>(layout->namesAt()), error)) {
      return false;
    }
    header().found(*layout, secret);
    header().file = file_.id();
    readLayout(*layout);
    if (prepare(error)) return true;
    file_.close();
    return false;
  }

  static Progress progressOf(bool isDone, const SharedError& error) noexcept {
    if (isDone) return Progress::kDone;
    return error ? Progress::kFailed : Progress::kAgain;
  }

  template <class LayoutFor, class Prepare, class Collect>
  Progress join(LayoutFor&& layoutFor, Prepare&& prepare, Collect&& collect,
                SharedError& error) noexcept {
    if (!openHeader(error) || !lock(&header(), error)) return Progress::kFailed;
    const Progress progress = joinLocked(layoutFor, prepare, collect, error);
    file_.unlock();
    return progress;
  }

  template <class LayoutFor, class Prepare, class Collect>
  Progress joinLocked(LayoutFor&& layoutFor, Prepare&& prepare, Collect&& collect,
                      SharedError& error) noexcept {
    if (!file_.isAt(path_)) return Progress::kAgain;
    if (header().isRemoved.load() != 0) {
      // The process that was removing it has ended.
      SharedFile::unlink(path_, error);
      return progressOf(false, error);
    }
    const SharedLayout* const layout = layoutFor(&this->layout(), error);
    if (layout == nullptr) return Progress::kFailed;
    SharedError reason;
    if (!header().agreesWith(*layout, reason)) {
      error.fail("the shared file %s cannot be used: %s", path_, reason.message);
      return Progress::kFailed;
    }
    if (!allocateCopy(*layout, error)) return Progress::kFailed;
    readLayout(*layout);
    const Boot boot = currentBoot();
    if (std::strncmp(boot.text, header().founding.boot.text, sizeof boot.text) == 0) {
      return Progress::kDone;
    }
    // The instants in the file are of another clock.
    if (isUsed(&header())) {
      error.fail("the shared file %s is used by processes with another monotonic clock", path_);
      return Progress::kFailed;
    }
    collect();
    return replace(layoutFor, prepare, error);
  }

  // Allocates a copy of a file: writing to one of its holes would end the process if there is no
  // room. Limiters would allocate what is behind namesAt() when they need it, but in a copy they
  // find there what they have allocated in the original.
  bool allocateCopy(const SharedLayout& layout, SharedError& error) noexcept {
    const auto eager = static_cast<size_t>(layout.namesAt());
    if (header().file == file_.id() && file_.allocatedBytes() >= eager) return true;
    if (!file_.allocate(0, file_.size())) return file_.failForRoom(path_, file_.size(), error);
    header().file = file_.id();
    return true;
  }

  // Puts a new file in the place of the mapped one, which stays locked meanwhile: those who wait
  // for that lock find out that the path does not lead to it any more.
  template <class LayoutFor, class Prepare>
  Progress replace(LayoutFor&& layoutFor, Prepare&& prepare, SharedError& error) noexcept {
    const Secret secret = header().secret(header().secretVersion.load());
    SharedFile former;
    former.swap(file_);
    if (!create(layoutFor, secret, prepare, error)) return Progress::kFailed;
    return progressOf(file_.replace(path_, error), error);
  }

  // Copies what the addresses of shards depend on, because another process may change it.
  void readLayout(const SharedLayout& layout) noexcept {
    shards_ = layout.shards;
    headBytes_ = layout.headBytes;
    heads_ = file_.bytes() + static_cast<size_t>(layout.headsAt());
    pages_ = file_.bytes() + static_cast<size_t>(layout.pagesAt());
    namesAt_ = static_cast<size_t>(layout.namesAt());
    configAt_ = static_cast<size_t>(layout.configAt());
  }

  // Maps an opened file and checks its header.
  bool openHeader(SharedError& error) noexcept {
    SharedError reason;
    if (file_.map(sizeof(SharedHeader), reason) && intactHeader(reason) != nullptr) return true;
    return error.fail("the shared file %s cannot be used: %s", path_, reason.message);
  }

  // The header of a mapped file; nullptr if it is damaged or of another version.
  SharedHeader* intactHeader(SharedError& reason) const noexcept {
    if (file_.size() < sizeof(SharedHeader)) {
      reason.fail("it is too short");
      return nullptr;
    }
    return header().isIntact(file_.size(), reason) ? &header() : nullptr;
  }

  // Waits until no other limiter joins or removes the file.
  bool lock(SharedHeader* header, SharedError& error) noexcept {
    const double began = monotonicSeconds();
    do {
      if (file_.lock()) {
        if (header != nullptr) header->joiner.store(processId());
        return true;
      }
      sleepMicroseconds(1000);
    } while (monotonicSeconds() - began < kJoiningSeconds);
    const uint32_t joiner = header == nullptr ? 0 : header->joiner.load();
    char process[32] = "another process";
    if (joiner != 0) {
      std::snprintf(process, sizeof process, "process %lu", static_cast<unsigned long>(joiner));
    }
    return error.fail(
        "%s has been joining or removing the shared file %s for seconds: it is stopped, or gets no "
        "processor time",
        process, path_);
  }

  // Whether a limiter is attached, of whatever version.
  bool isUsed(const SharedHeader* header) const noexcept {
    bool isUsed = false;
#if defined(RELAY_LIMITER_NO_BYTE_LOCKS)
    if (header != nullptr) eachAttached([&](uint32_t, double) { isUsed = true; });
#else
    static_cast<void>(header);
    for (uint32_t i = 0; i < kAttachSlots && !isUsed; ++i) isUsed = file_.isByteLocked(byteOf(i));
#endif
    return isUsed;
  }

  // Takes a free slot. False if there is none.
  bool takeSlot() noexcept {
    for (uint32_t i = 0; i < kAttachSlots; ++i) {
      AttachSlot& slot = header().slots[i];
      uint64_t owner = slot.owner.load();
      const uint32_t generation = AttachSlot::generationOf(owner) + 1;
      const uint64_t own = AttachSlot::ownerOf(generation, processId());
#if defined(RELAY_LIMITER_NO_BYTE_LOCKS)
      if (isTaken(i, owner) || !slot.owner.compare_exchange_strong(owner, own)) continue;
      slot.processStart = processStart(processId());
#else
      if (!file_.lockByte(byteOf(i))) continue;
      slot.owner.store(own);
#endif
      slot.since = wallMilliseconds();
      slot_ = i;
      word_ = static_cast<uint64_t>(i + 1) << 48 | static_cast<uint64_t>(generation & 0xffff) << 32;
      return true;
    }
    return false;
  }

  // Whether a slot that is not this limiter's own is taken.
  bool isTaken(uint32_t slot, uint64_t owner) const noexcept {
#if defined(RELAY_LIMITER_NO_BYTE_LOCKS)
    const uint32_t pid = AttachSlot::pidOf(owner);
    return pid != 0 && isProcessAlive(pid, header().slots[slot].processStart);
#else
    static_cast<void>(owner);
    return file_.isByteLocked(byteOf(slot));
#endif
  }

  bool copyPath(const char* path, SharedError& error) noexcept {
    const size_t size = std::strlen(path) + 1;
    std::free(path_);
    path_ = static_cast<char*>(std::malloc(size));
    if (path_ == nullptr) return error.failForMemory("no memory for the path %s", path);
    std::memcpy(path_, path, size);
    return true;
  }

  SharedFile file_;
  char* path_ = nullptr;
  uint32_t slot_ = kNoSlot;
  // The part of a lock word that stays the same.
  uint64_t word_ = 0;
  uint32_t sequence_ = 0;
  uint64_t shards_ = 0;
  uint64_t headBytes_ = 0;
  size_t namesAt_ = 0;
  size_t configAt_ = 0;
  unsigned char* heads_ = nullptr;
  unsigned char* pages_ = nullptr;
};

}  // namespace relay_limiter

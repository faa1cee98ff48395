// The table that a limiter shares with other processes: what it is, and whether its file still has its path.

import type { CommonOptions } from '../common/options.js';
import { detached, unref } from '../common/timers.js';
import type { EngineName, SharedTable } from '../common/types.js';
import type { Engine, SharedCore } from '../engine/engine.js';
import { selectEngine, selectSharedEngine } from '../engine/select.js';

/** Milliseconds between two looks at the files. */
const WATCH_MS = 1000;

/** The core of a limiter, and its part in a shared table. */
interface Table<Core> {
  readonly engine: EngineName;
  readonly core: Core;
  readonly membership: SharedMembership | undefined;
}

/** Creates the core of a limiter, with a table of its own or a shared one. @throws the errors of the engine */
export function openTable<Core>(
  { engine: wish, shared }: Pick<CommonOptions, 'engine' | 'shared'>,
  create: (engine: Engine, sharedPath: string | undefined) => Core,
): Table<Core> {
  if (shared === undefined) {
    const engine = selectEngine(wish);
    return { engine: engine.name, core: create(engine, undefined), membership: undefined };
  }
  const engine = selectSharedEngine(wish);
  const core = create(engine, engine.sharedFiles.pathOf(shared)) as Core & SharedCore;
  return { engine: engine.name, core, membership: new SharedMembership(shared, core) };
}

/** Watcher looks once a second whether the files of all shared tables of this process still have their paths. */
export class Watcher {
  /** Weak references: a limiter that is garbage-collected leaves its table. */
  readonly #watched = new Set<WeakRef<SharedMembership>>();
  #timer: ReturnType<typeof setInterval> | undefined;

  add(membership: SharedMembership): void {
    this.#watched.add(new WeakRef(membership));
    this.#timer ??= detached(() => setInterval(() => this.#look(), WATCH_MS));
    unref(this.#timer);
  }

  #look(): void {
    for (const reference of this.#watched) {
      if (reference.deref()?.look() !== true) this.#watched.delete(reference);
    }
    if (this.#watched.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/** The watcher of this process. */
const watcher = new Watcher();

/** SharedMembership is the part of one limiter in a shared table. */
export class SharedMembership {
  readonly #name: string;
  readonly #core: SharedCore;
  /** The last state, once the limiter has left the table. */
  #left: SharedTable | undefined;
  #hasWarned = false;

  constructor(name: string, core: SharedCore, watch: Watcher = watcher) {
    this.#name = name;
    this.#core = core;
    watch.add(this);
  }

  /** O(number of attached limiters). */
  state(): SharedTable {
    if (this.#left !== undefined) return this.#left;
    const { path, createdAt, attached: limiters, isDetached } = this.#core.sharedState();
    const attached = limiters.length;
    return { name: this.#name, path, createdAt, attached, limiters, detached: isDetached };
  }

  /** Leaves the table. A second call does nothing. */
  leave(): void {
    if (this.#left !== undefined) return;
    this.#left = { ...this.state(), attached: 0, limiters: [], detached: true };
    this.#core.detach();
  }

  /** Warns once if limiters that are created from now on share another table. Returns whether it must look again. */
  look(): boolean {
    if (this.#left !== undefined || this.#hasWarned) return false;
    const { path, isDetached } = this.#core.sharedState();
    if (!isDetached) return true;
    this.#hasWarned = true;
    process.emitWarning(
      `relay-limiter: the shared file ${path} was removed or replaced. This process still limits together with those ` +
        'that joined before; newer ones have a table of their own. Restart it to join them.',
      { code: 'ERR_LIMITER_SHARED' },
    );
    return false;
  }
}

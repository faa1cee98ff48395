// The actions of the page: lift a ban, ban a peer by hand, find a peer. Each is a POST request with a JSON body.

import type { IncomingMessage } from 'node:http';
import { ifKnown, type ObservableLimiter } from '../limiters/stats.js';
import { type Body, type BodyStatus, readBody } from './body.js';
import type { Feed } from './feed.js';
import type { Found, FoundPeer } from './messages.js';
import type { DashboardSettings } from './options.js';

/** The status code of the response, or the result of a search. */
export type Outcome = 204 | 404 | 409 | 500 | BodyStatus | Found;

export type ActionName = 'lift' | 'ban' | 'find';

export function isAction(name: string): name is ActionName {
  return name === 'lift' || name === 'ban' || name === 'find';
}

export class Actions {
  readonly #settings: DashboardSettings;
  readonly #feed: Feed;
  /** The key of the last lifted ban, if the listing has truncated it. It allows the page to undo the lift. */
  #lifted: { readonly hash: string; readonly key: string } | undefined;

  constructor(settings: DashboardSettings, feed: Feed) {
    this.#settings = settings;
    this.#feed = feed;
  }

  isAllowed(name: ActionName): boolean {
    const { allowLift, allowBan } = this.#settings;
    return name === 'find' || (name === 'lift' ? allowLift : allowBan);
  }

  /** Rejects if the connection breaks while the body is read. */
  async perform(name: ActionName, request: IncomingMessage): Promise<Outcome> {
    const body = await readBody(request);
    if (typeof body === 'number') return body;
    try {
      if (name === 'find') return this.#find(body);
      return name === 'lift' ? this.#lift(body) : this.#ban(body);
    } catch {
      // The clock of a limiter, which is user code, may throw, and memory may run out.
      return 500;
    }
  }

  #find({ key }: Body): Found | 400 {
    if (typeof key !== 'string') return 400;
    const peers: FoundPeer[] = [];
    this.#settings.limiters.forEach(([, limiter], index) => {
      const peer = ifKnown(() => foundPeer(index, limiter, key));
      if (peer !== null) peers.push(peer);
    });
    return { peers };
  }

  #lift(body: Body): 204 | 400 | 404 {
    if (!isPeer(body)) return 400;
    const { limiter, key } = this.#peer(body);
    if (key === undefined || !limiter?.isBanned?.(key)) return 404;
    limiter.removePeer(key);
    if (body.hash !== undefined) this.#lifted = { hash: body.hash, key };
    return 204;
  }

  #ban(body: Body): 204 | 400 | 404 | 409 {
    if (!isPeer(body)) return 400;
    const { limiter, key } = this.#peer(body);
    if (key === undefined || limiter?.ban === undefined) return 404;
    const { seconds = banDurationOf(limiter), violations = 0 } = body;
    if (typeof seconds !== 'number' || typeof violations !== 'number') return 400;
    try {
      return limiter.ban(key, seconds, violations) ? 204 : 409;
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ERR_LIMITER_OPTION') return 400;
      throw error;
    }
  }

  /** Returns the limiter and the whole key that a request names; each is undefined if it is unknown. */
  #peer({ limiter, key, hash }: PeerBody): {
    limiter?: ObservableLimiter | undefined;
    key?: string | undefined;
  } {
    const named = this.#settings.limiters.find(([name]) => name === limiter)?.[1];
    if (hash === undefined) return { limiter: named, key };
    const lifted = this.#lifted?.hash === hash ? this.#lifted.key : undefined;
    return { limiter: named, key: this.#feed.wholeKey(hash) ?? lifted };
  }
}

interface PeerBody extends Body {
  readonly limiter: string;
  readonly key: string;
  readonly hash?: string;
}

function isPeer(body: Body): body is PeerBody {
  const { limiter, key, hash } = body;
  if (typeof limiter !== 'string' || typeof key !== 'string') return false;
  return hash === undefined || typeof hash === 'string';
}

function foundPeer(limiter: number, watched: ObservableLimiter, key: string): FoundPeer {
  // First, because isBanned lifts an expired ban, which may reset the violations.
  const banned = watched.isBanned?.(key) ?? null;
  return { limiter, violations: watched.getViolationCount(key), banned };
}

/** The maximum duration of a ban by hand, in seconds; null if the limiter supports none. */
export function banDurationOf({ ban, banDuration }: ObservableLimiter): number | null {
  return ban !== undefined && banDuration !== undefined && banDuration > 0 ? banDuration : null;
}

// The actions of the page: lift a ban, ban a peer by hand, find a peer. Each is a POST request with a JSON body.

import type { IncomingMessage } from 'node:http';
import { DEFAULT_BAN_DURATION } from '../common/constants.js';
import { ifKnown, type ObservableLimiter } from '../limiters/stats.js';
import { type Body, type BodyStatus, readBody } from './body.js';
import type { Feed } from './feed.js';
import {
  type About,
  decodeSeconds,
  encodeSeconds,
  type Found,
  type FoundPeer,
  type HandBans,
} from './messages.js';
import type { DashboardSettings } from './options.js';
import type { Shown } from './shown.js';

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
    } catch (error) {
      const { code } = error as { code?: unknown };
      // A scope of addresses has no other keys; no ban is longer than the limiter's maximum.
      if (code === 'ERR_LIMITER_KEY' || code === 'ERR_LIMITER_OPTION') return 400;
      // The clock of a limiter, which is user code, may throw, and memory may run out.
      return 500;
    }
  }

  #find({ key }: Body): Found | 400 {
    if (typeof key !== 'string') return 400;
    const peers: FoundPeer[] = [];
    this.#settings.shown.forEach((shown, index) => {
      if (!('limiter' in shown)) return;
      const peer = ifKnown(() => foundPeer(index, shown.limiter, key));
      if (peer !== null) peers.push(peer);
    });
    return { peers };
  }

  #lift(body: Body): 204 | 400 | 404 {
    if (!isPeer(body)) return 400;
    const { limiter, key } = this.#peer(body);
    if (key === undefined || !limiter?.isBanned?.(key)) return 404;
    if (liftForgets(limiter)) limiter.removePeer(key);
    else limiter.unban?.(key);
    if (body.hash !== undefined) this.#lifted = { hash: body.hash, key };
    return 204;
  }

  #ban(body: Body): 204 | 400 | 404 | 409 {
    if (!isPeer(body)) return 400;
    const { limiter, key } = this.#peer(body);
    if (key === undefined || limiter?.ban === undefined) return 404;
    const { seconds, violations = 0 } = body;
    const isLength = seconds === undefined || seconds === 'forever' || typeof seconds === 'number';
    if (!isLength || typeof violations !== 'number') return 400;
    const length = seconds === undefined ? undefined : decodeSeconds(seconds);
    return limiter.ban(key, length, violations) ? 204 : 409;
  }

  /** Returns the limiter and the whole key that a request names; each is undefined if it is unknown. */
  #peer({ limiter, key, hash }: PeerBody): {
    limiter?: ObservableLimiter | undefined;
    key?: string | undefined;
  } {
    const shown = this.#settings.shown.find(({ name }) => name === limiter);
    const named = shown !== undefined && 'limiter' in shown ? shown.limiter : undefined;
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
  const found = { limiter, violations: watched.getViolationCount(key), banned };
  if (!banned || watched.banSecondsLeft === undefined) return found;
  return { ...found, secondsLeft: encodeSeconds(watched.banSecondsLeft(key)) };
}

/** What the page must know of a limiter. */
export function aboutOf(shown: Shown, allowBan: boolean): About {
  const { name } = shown;
  if ('rules' in shown) {
    const kind = shown.rules.constructor.name;
    return { name, kind, ban: null, liftForgets: null, whole: null };
  }
  const { limiter, whole } = shown;
  return {
    name,
    kind: limiter.constructor.name,
    ban: allowBan ? handBansOf(limiter) : null,
    liftForgets: limiter.isBanned === undefined ? null : liftForgets(limiter),
    whole,
  };
}

/**
 * Whether a lift must forget the violations too. In the limiters with one kind of key they stay above the threshold, so
 * that the next refusal would ban the peer again. A scope of a RuleLimiter counts anew after each ban.
 */
function liftForgets({ unban, maxBanSeconds }: ObservableLimiter): boolean {
  return unban === undefined || maxBanSeconds === undefined;
}

function handBansOf(limiter: ObservableLimiter): HandBans | null {
  const { ban, banDuration = 0, maxBanSeconds = banDuration } = limiter;
  if (ban === undefined || !(maxBanSeconds > 0)) return null;
  const hasDefault = banDuration > 0 && banDuration < Infinity;
  return {
    seconds: hasDefault ? banDuration : DEFAULT_BAN_DURATION,
    most: encodeSeconds(maxBanSeconds),
  };
}

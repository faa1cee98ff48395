// Strict servers: each refuses what exceeds its limits by the time at which a request arrives. Refused requests do not
// count. Times are in seconds.

/** A request as a server sees it. */
export interface Arrival {
  readonly method: string;
  readonly path: string;
  readonly tokens: number;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** Returns the answer to a request that arrives at `now`; undefined for none. */
export type Server = (request: Arrival, now: number) => Answer | undefined;

export interface Window {
  readonly quota: number;
  readonly windowSeconds: number;
}

/** A limit that counts units, and says when they are available again. */
interface Limit {
  /** Seconds until `units` are available; 0 means now. */
  wait(units: number, now: number): number;
  take(units: number, now: number): void;
  remaining(now: number): number;
  /** Seconds until the limit is as a new one. */
  reset(now: number): number;
}

function slidingLimit({ quota, windowSeconds }: Window): Limit {
  const taken: { at: number; units: number }[] = [];
  // The first entry that counts, and the units of all that do.
  let [head, used] = [0, 0];
  const expire = (now: number) => {
    for (; head < taken.length; head += 1) {
      const { at, units } = taken[head] as { at: number; units: number };
      if (now - at < windowSeconds) return;
      used -= units;
    }
  };
  return {
    wait(units, now) {
      expire(now);
      let missing = used + units - quota;
      for (let index = head; missing > 0 && index < taken.length; index += 1) {
        const entry = taken[index] as { at: number; units: number };
        missing -= entry.units;
        if (missing <= 0) return entry.at + windowSeconds - now;
      }
      return 0;
    },
    take(units, now) {
      taken.push({ at: now, units });
      used += units;
    },
    remaining(now) {
      expire(now);
      return quota - used;
    },
    reset(now) {
      expire(now);
      return used === 0 ? 0 : (taken.at(-1)?.at ?? 0) + windowSeconds - now;
    },
  };
}

/** Fixed windows, the first of which ends at `firstEnd`; undefined: a window begins with a request after the last one. */
function fixedLimit({ quota, windowSeconds }: Window, firstEnd?: number): Limit {
  let [end, used] = [firstEnd ?? Number.NEGATIVE_INFINITY, 0];
  const enter = (now: number) => {
    if (now < end) return;
    used = 0;
    if (firstEnd !== undefined)
      end += windowSeconds * (1 + Math.floor((now - end) / windowSeconds));
  };
  return {
    wait(units, now) {
      enter(now);
      return used + units <= quota ? 0 : end - now;
    },
    take(units, now) {
      enter(now);
      if (now >= end) end = now + windowSeconds;
      used += units;
    },
    remaining(now) {
      enter(now);
      return quota - used;
    },
    reset: (now) => Math.max(0, end - now),
  };
}

function bucketLimit(capacity: number, perSecond: number): Limit {
  let [tokens, last] = [capacity, 0];
  const refill = (now: number) => {
    tokens = Math.min(capacity, tokens + (now - last) * perSecond);
    last = now;
  };
  return {
    wait(units, now) {
      refill(now);
      // Less than rounding errors of the refill.
      return tokens >= units - 1e-9 ? 0 : (units - tokens) / perSecond;
    },
    take(units, now) {
      refill(now);
      tokens -= units;
    },
    remaining(now) {
      refill(now);
      return Math.floor(tokens + 1e-9);
    },
    reset: (now) => {
      refill(now);
      return (capacity - tokens) / perSecond;
    },
  };
}

const refusal = (seconds: number, headers = {}, status = 429): Answer => {
  return { status, headers: { ...headers, 'retry-after': String(Math.ceil(seconds)) } };
};

/** A public Hive node: sliding windows, and Retry-After as its only header. */
export function hiveNode(windows: readonly Window[]): Server {
  const limits = windows.map(slidingLimit);
  return (_, now) => {
    const wait = Math.max(...limits.map((limit) => limit.wait(1, now)));
    if (wait > 0) return refusal(wait);
    for (const limit of limits) limit.take(1, now);
    return { status: 200 };
  };
}

/**
 * GitHub: 5,000 requests per hour (the current hour ends at `hourEnds`), and 900 points per minute, of which a GET costs
 * one and a POST five. Both refuse by 403, the second without a count that could be seen before.
 */
export function gitHub(hourEnds: number, epochSeconds: number): Server {
  const primary = fixedLimit({ quota: 5000, windowSeconds: 3600 }, hourEnds);
  const secondary = slidingLimit({ quota: 900, windowSeconds: 60 });
  return ({ method }, now) => {
    const points = method === 'GET' ? 1 : 5;
    const headers = () => ({
      'x-ratelimit-limit': '5000',
      'x-ratelimit-remaining': String(primary.remaining(now)),
      'x-ratelimit-reset': String(Math.ceil(epochSeconds + now + primary.reset(now))),
    });
    if (primary.wait(1, now) > 0) return { status: 403, headers: headers() };
    const wait = secondary.wait(points, now);
    if (wait > 0) {
      const body = JSON.stringify({ message: 'You have exceeded a secondary rate limit.' });
      return { ...refusal(wait, { ...headers(), 'content-type': 'application/json' }, 403), body };
    }
    primary.take(1, now);
    secondary.take(points, now);
    return { status: 200, headers: headers() };
  };
}

/** Discord: 50 requests per second for all routes, and a window for each route, whose exact reset every response has. */
export function discord(route: Window): Server {
  const all = slidingLimit({ quota: 50, windowSeconds: 1 });
  const routes = new Map<string, Limit>();
  return ({ path }, now) => {
    const limit = routes.get(path) ?? fixedLimit(route);
    routes.set(path, limit);
    const wait = limit.wait(1, now);
    const waitOfAll = all.wait(1, now);
    if (wait === 0 && waitOfAll === 0) {
      limit.take(1, now);
      all.take(1, now);
    }
    const headers = {
      'x-ratelimit-limit': String(route.quota),
      'x-ratelimit-remaining': String(Math.max(0, limit.remaining(now))),
      'x-ratelimit-reset-after': limit.reset(now).toFixed(3),
      'x-ratelimit-bucket': path.slice(1),
    };
    if (wait > 0) return refusal(wait, headers);
    return waitOfAll > 0
      ? refusal(waitOfAll, { 'x-ratelimit-global': 'true' })
      : { status: 200, headers };
  };
}

/** OpenAI: requests and tokens per minute, in two limits. */
export function openAI(requests: Window, tokens: Window): Server {
  const limits = { requests: slidingLimit(requests), tokens: slidingLimit(tokens) };
  return (request, now) => {
    const waits = [limits.requests.wait(1, now), limits.tokens.wait(request.tokens, now)];
    const wait = Math.max(...waits);
    if (wait === 0) {
      limits.requests.take(1, now);
      limits.tokens.take(request.tokens, now);
    }
    const headers = {
      'x-ratelimit-limit-requests': String(requests.quota),
      'x-ratelimit-remaining-requests': String(limits.requests.remaining(now)),
      'x-ratelimit-reset-requests': `${limits.requests.reset(now).toFixed(3)}s`,
      'x-ratelimit-limit-tokens': String(tokens.quota),
      'x-ratelimit-remaining-tokens': String(limits.tokens.remaining(now)),
      'x-ratelimit-reset-tokens': `${limits.tokens.reset(now).toFixed(3)}s`,
    };
    return wait > 0 ? refusal(wait, headers) : { status: 200, headers };
  };
}

/** Shopify: a leaky bucket, whose level every response has. */
export function shopify(capacity: number, perSecond: number): Server {
  const limit = bucketLimit(capacity, perSecond);
  return (_, now) => {
    const wait = limit.wait(1, now);
    if (wait === 0) limit.take(1, now);
    const level = `${capacity - limit.remaining(now)}/${capacity}`;
    const headers = { 'x-shopify-shop-api-call-limit': level };
    return wait > 0 ? refusal(wait, headers) : { status: 200, headers };
  };
}

/** Binance: weight per minute of the clock. */
export function binance(minute: Window, firstEnd: number, weight: number): Server {
  const limit = fixedLimit(minute, firstEnd);
  return (_, now) => {
    const wait = limit.wait(weight, now);
    if (wait === 0) limit.take(weight, now);
    const headers = { 'x-mbx-used-weight-1m': String(minute.quota - limit.remaining(now)) };
    return wait > 0 ? refusal(wait, headers) : { status: 200, headers };
  };
}

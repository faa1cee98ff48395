// The contenders: relay-limiter with its defaults, and other packages as their documentation suggests, with the limits
// that the API states. Of the others only GitHub's reads responses, so a request that fails is repeated after Retry-After.

import { Octokit } from '@octokit/core';
import { throttling } from '@octokit/plugin-throttling';
import Bottleneck from 'bottleneck';
import { RateLimiter } from 'limiter';
import PQueue from 'p-queue';
import pThrottle from 'p-throttle';
import { limitFetch, UpstreamPool } from 'relay-limiter/client';
import type { Job, Program } from './programs.js';
import type { Window } from './servers.js';

/** Sends one job, and returns the last status; 0 without a response. */
export type Sender = (job: Job) => Promise<number>;

export interface Contender {
  readonly name: string;
  /** The kind of programs that it can run; undefined for all. */
  readonly kind?: Program['kind'];
  start(program: Program, hosts: readonly string[], fetch: typeof globalThis.fetch): Sender;
}

/** Runs a function when a limit allows it. */
type Limit = <T>(weight: number, run: () => Promise<T>) => Promise<T>;

const ATTEMPTS = 5;

export const CONTENDERS: readonly Contender[] = [
  { name: 'relay-limiter', start: relayLimiter({}) },
  // The default of a PolicyLimiter alone: evenly spread, without the pauses of a sliding window.
  { name: "with 'bucket'", start: relayLimiter({ algorithm: 'bucket' }) },
  other('bottleneck', ({ quota, windowSeconds }) => {
    const limiter = new Bottleneck({
      reservoir: quota,
      reservoirRefreshAmount: quota,
      reservoirRefreshInterval: windowSeconds * 1000,
    });
    return (weight, run) => limiter.schedule({ weight }, run);
  }),
  other('p-throttle', ({ quota, windowSeconds }) => {
    const throttle = pThrottle({
      limit: quota,
      interval: windowSeconds * 1000,
      strict: true,
      weight: (weight: number) => weight,
    });
    const limited = throttle((_: number, run: () => Promise<unknown>) => run());
    return (weight, run) => limited(weight, run) as ReturnType<typeof run>;
  }),
  other('p-queue', ({ quota, windowSeconds }, meanCost) => {
    // It counts runs only, so a weighted quota becomes one of mean weights.
    const intervalCap = Math.max(1, Math.floor(quota / meanCost));
    const queue = new PQueue({ intervalCap, interval: windowSeconds * 1000, strict: true });
    return (_, run) => queue.add(run);
  }),
  other('limiter', ({ quota, windowSeconds }) => {
    const limiter = new RateLimiter({
      tokensPerInterval: quota,
      interval: windowSeconds * 1000,
    });
    return async (weight, run) => {
      await limiter.removeTokens(weight);
      return run();
    };
  }),
  { name: 'octokit throttling', kind: 'points', start: octokit },
];

/** Returns those that can run a program. */
export function contendersFor(program: Program): Contender[] {
  return CONTENDERS.filter(({ kind }) => kind === undefined || kind === program.kind);
}

/** GitHub's own client, which reads responses, and needs a `true` for each retry. */
function octokit(_: Program, [host]: readonly string[], fetch: typeof globalThis.fetch): Sender {
  const Throttled = Octokit.plugin(throttling);
  const isRetried = (_after: number, _request: object, _client: object, retries: number) =>
    retries < ATTEMPTS - 1;
  const client = new Throttled({
    baseUrl: `https://${host}`,
    request: { fetch },
    log: { debug() {}, info() {}, warn() {}, error() {} },
    throttle: { onRateLimit: isRetried, onSecondaryRateLimit: isRetried },
  });
  return async ({ method, path }) => {
    try {
      return (await client.request(`${method} ${path}`)).status;
    } catch (error) {
      return (error as { status?: number }).status ?? 0;
    }
  };
}

function relayLimiter(options: { algorithm?: 'bucket' }): Contender['start'] {
  return ({ kind, windows }, hosts, fetch) => {
    const limited = limitedFetch();
    return async ({ method, path, tokens }) => {
      const body = tokens > 0 ? { body: JSON.stringify({ max_tokens: tokens }) } : {};
      const response = await limited(`https://${hosts[0]}${path}`, { method, ...body });
      return response.status;
    };

    function limitedFetch(): typeof globalThis.fetch {
      if (kind === 'pool') {
        const policies = windows.map(({ quota, windowSeconds }) => ({
          v: quota,
          w: windowSeconds,
        }));
        const file = Object.fromEntries(hosts.map((host) => [host, { policies }]));
        return limitFetch(fetch, new UpstreamPool(file, options));
      }
      if (kind === 'routes') {
        const key = ({ url }: { url: string }) => new URL(url).pathname;
        return limitFetch(fetch, { common: windows, ...options }, { key });
      }
      if (kind === 'points') {
        const policies = windows.map((window) => ({ ...window, unit: 'points' }));
        const cost = ({ method }: { method: string }) => ({ points: method === 'GET' ? 1 : 5 });
        return limitFetch(fetch, { policies, ...options }, { cost });
      }
      if (kind === 'tokens') {
        const tokens = windows.map((window) => ({ ...window, unit: 'tokens' }));
        const policies = [{ quota: 500, windowSeconds: 60 }, ...tokens];
        const cost = ({ body }: { body?: unknown }) => ({
          tokens: (JSON.parse(String(body)) as { max_tokens: number }).max_tokens,
        });
        return limitFetch(fetch, { policies, ...options }, { cost });
      }
      const weight = hosts.length === 1 && windows[0]?.quota === 6000 ? 20 : 1;
      return limitFetch(fetch, { policies: windows, ...options }, { cost: () => weight });
    }
  };
}

/** Returns a contender with one limit per window, one within the other, for each host; hosts are used in turn. */
function other(name: string, limitOf: (window: Window, meanCost: number) => Limit): Contender {
  return {
    name,
    start: ({ windows, unit, jobs }, hosts, fetch) => {
      const all = jobs();
      const meanCost =
        unit === 'requests' ? 1 : all.reduce((sum, { cost }) => sum + cost, 0) / all.length;
      const limits = new Map(
        hosts.map((host) => [host, windows.map((window) => limitOf(window, meanCost))]),
      );
      let turn = 0;
      return async (job) => {
        const weight = unit === 'requests' ? 1 : job.cost;
        for (let attempt = 1; ; attempt += 1) {
          const host = hosts[turn++ % hosts.length] as string;
          const send = () => attemptOnce(fetch, host, job);
          const limited = (limits.get(host) ?? []).reduce<() => Promise<Attempt>>(
            (run, limit) => () => limit(weight, run),
            send,
          );
          const { status, waitSeconds } = await limited();
          if (status === 200 || attempt === ATTEMPTS) return status;
          await new Promise((resolve) => setTimeout(resolve, waitSeconds * 1000));
        }
      };
    },
  };
}

interface Attempt {
  readonly status: number;
  readonly waitSeconds: number;
}

async function attemptOnce(
  fetch: typeof globalThis.fetch,
  host: string,
  job: Job,
): Promise<Attempt> {
  const { method, path, tokens } = job;
  const body = tokens > 0 ? { body: JSON.stringify({ max_tokens: tokens }) } : {};
  const signal = timeout(30);
  try {
    const response = await fetch(`https://${host}${path}`, { method, signal, ...body });
    return {
      status: response.status,
      waitSeconds: Number(response.headers.get('retry-after') ?? 1),
    };
  } catch {
    return { status: 0, waitSeconds: 1 };
  }
}

function timeout(seconds: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), seconds * 1000).unref();
  return controller.signal;
}

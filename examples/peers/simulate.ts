// Runs a program with a contender in virtual time, and counts what its servers have seen.

import type { Contender } from './contenders.js';
import type { Program } from './programs.js';
import { inVirtualTime } from './virtual-time.js';

export interface Outcome {
  readonly contender: string;
  /** The time at which everything was served, or given up. */
  readonly seconds: number;
  /** Requests that a limit refused. */
  readonly refused: number;
  /** Jobs whose last answer was not 200. */
  readonly lost: number;
}

/** Callers that send one job after the other. */
const CALLERS = 200;
/** How long a request is on its way to the server, in seconds, and an answer back. */
const [LEAST_TRIP, MOST_TRIP] = [0.02, 0.06];

/** @param seed the seed of the times that requests and answers need, and of `Math.random` */
export function simulate(program: Program, contender: Contender, seed = 1): Promise<Outcome> {
  return inVirtualTime(seed, async (now, random) => {
    const servers = program.servers();
    let refused = 0;
    const trip = () => sleep(LEAST_TRIP + (MOST_TRIP - LEAST_TRIP) * random());
    const fetch: typeof globalThis.fetch = async (input, init) => {
      const { host, pathname } = new URL(String(input));
      await trip();
      const { max_tokens: tokens = 0 } = JSON.parse(String(init?.body ?? '{}')) as {
        max_tokens?: number;
      };
      const request = { method: init?.method ?? 'GET', path: pathname, tokens };
      const answer = servers[host]?.(request, now());
      if (answer === undefined) return neverAnswers(init?.signal ?? undefined);
      if (answer.status === 429 || answer.status === 403) refused += 1;
      await trip();
      return new Response(answer.body ?? null, answer);
    };
    const send = contender.start(program, Object.keys(servers), fetch);
    const jobs = program.jobs();
    let [next, lost] = [0, 0];
    const call = async () => {
      while (next < jobs.length) {
        const job = jobs[next++];
        const status = job && (await send(job).catch(() => 0));
        if (status !== 200) lost += 1;
      }
    };
    await Promise.all(Array.from({ length: CALLERS }, call));
    return { contender: contender.name, seconds: now(), refused, lost };
  });
}

function sleep(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

function neverAnswers(signal: AbortSignal | undefined): Promise<Response> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(signal.reason));
  });
}

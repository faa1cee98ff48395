// The pairs of docs/migration-servers.md: both programs of each pair get the same calls at the same virtual times, and their
// answers are compared. Pairs that need processes or a store are in migration-servers.real.test.ts.

import { readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance } from 'fastify';
import type { EngineName } from 'relay-limiter';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Middleware, outcomeOf, requestFrom } from './http/support.js';
import { ENGINES } from './support/limiters.js';
import { type Pair, pairsOf, runProgram } from './support/migration.js';
import { camelCase, readTrace } from './support/replay.mjs';

const PAIRS = pairsOf('docs/migration-servers.md');
const REAL = ['Workers of one machine', 'Redis'];

type Call = (...given: unknown[]) => unknown;
type Program = Record<string, Call>;

const wait = (seconds: number) => vi.advanceTimersByTime(seconds * 1000);
const clock = () => Date.now() / 1000;

/** The answers of the calls, one after the other. */
async function answers(times: number, call: () => unknown): Promise<unknown[]> {
  const found: unknown[] = [];
  for (let n = 0; n < times; n += 1) found.push(await call());
  return found;
}

/** How many of the calls return true, and that no refused one comes before an allowed one. */
async function admitted(times: number, call: () => unknown): Promise<number> {
  const found = await answers(times, call);
  const count = found.filter((answer) => answer === true).length;
  expect(found).toEqual(found.map((_, index) => index < count));
  return count;
}

/** A module of the package whose limiters have the test's clock and engine. */
async function ownModule(name: string, engine: EngineName): Promise<unknown> {
  const defaults = { clock, engine };
  if (name === 'relay-limiter/http') {
    const { rateLimit, ...others } = await import('relay-limiter/http');
    const limit = (options: object) =>
      rateLimit({ ...('limiter' in options ? {} : defaults), ...options });
    return { ...others, rateLimit: limit };
  }
  if (name === 'relay-limiter/fastify') {
    const { default: plugin } = await import('relay-limiter/fastify');
    type Given = [app: FastifyInstance, options: object, ...others: unknown[]];
    const apply = (target: Call, self: unknown, [app, options, ...others]: Given) =>
      target.call(self, app, { ...defaults, ...options }, ...others);
    // A proxy, since Fastify reads symbols of the plugin.
    return { default: new Proxy(plugin as unknown as Call, { apply } as ProxyHandler<Call>) };
  }
  if (name !== 'relay-limiter') return import('relay-limiter/address');
  const library = (await import('relay-limiter')) as unknown as Record<string, unknown>;
  const withDefaults = (name: string) => {
    const Limiter = library[name] as new (options: object) => object;
    return class extends Limiter {
      constructor(options: object) {
        super({ ...defaults, ...options });
      }
    };
  };
  const names = Object.keys(library).filter((name) => name.endsWith('RateLimiter'));
  return Object.fromEntries([...names, 'RuleLimiter'].map((name) => [name, withDefaults(name)]));
}

const OTHERS: Record<string, () => Promise<unknown>> = {
  '@fastify/rate-limit': () => import('@fastify/rate-limit'),
  express: () => import('express'),
  'express-rate-limit': () => import('express-rate-limit'),
  fastify: () => import('fastify'),
  limiter: () => import('limiter'),
  'rate-limiter-flexible': () => import('rate-limiter-flexible'),
  // Nest is installed only by test:frameworks, which tests the guard in it.
  '@nestjs/common': async () => {
    class HttpException extends Error {
      readonly status: number;
      constructor(message: string, status: number) {
        super(message);
        this.status = status;
      }
    }
    return { HttpException };
  },
};

function loader(engine: EngineName): (name: string) => Promise<unknown> {
  return async function load(name) {
    if (name === './nest.mjs') {
      const recipe = readFileSync(new URL('../examples/recipes/nest.mjs', import.meta.url), 'utf8');
      const code = recipe.replace('export class', 'class');
      return runProgram(code, { load }, '{ RateLimitGuard }');
    }
    return name.startsWith('relay-limiter') ? ownModule(name, engine) : OTHERS[name]?.();
  };
}

type Calls = (program: Program) => Promise<unknown[]>;

/** Calls that are answered differently, as the page says. */
interface Difference {
  readonly calls: Calls;
  readonly before: unknown[];
  readonly after: unknown[];
}

interface Scenario {
  /** The functions of the program that the calls use, or `app`. */
  readonly names: string;
  readonly calls: Calls;
  readonly expected: unknown[];
  readonly differs?: Difference;
}

/** For a window of `seconds` and a quota: most of it just before the window ends, and all of it just after. */
function aroundTheEnd(seconds: number, quota: number): Difference {
  return {
    calls: async ({ isAllowed }) => {
      await isAllowed?.('a');
      wait(0.99 * seconds);
      const before = await admitted(quota - 1, () => isAllowed?.('a'));
      wait(0.02 * seconds);
      return [before, await admitted(quota, () => isAllowed?.('a'))];
    },
    before: [quota - 1, quota],
    after: [quota - 1, 1],
  };
}

const HTTP: Scenario = {
  names: 'app',
  calls: async ({ isAllowed, login }) => {
    const first = [
      await admitted(22, () => isAllowed?.('a')),
      await admitted(2, () => isAllowed?.('b')),
      await admitted(7, () => login?.('c')),
    ];
    wait(61);
    const second = [await admitted(22, () => isAllowed?.('a'))];
    wait(901);
    return [...first, ...second, await admitted(7, () => login?.('c'))];
  },
  expected: [20, 2, 5, 20, 5],
  differs: aroundTheEnd(60, 20),
};

const FIVE_IN_TEN_SECONDS: Scenario = {
  names: 'isAllowed',
  calls: async ({ isAllowed }) => {
    const first = [
      await admitted(7, () => isAllowed?.('a')),
      await admitted(2, () => isAllowed?.('b')),
    ];
    wait(10.5);
    return [...first, await admitted(7, () => isAllowed?.('a'))];
  },
  expected: [5, 2, 5],
};

const SCENARIOS: Record<string, Scenario> = {
  'express-rate-limit': HTTP,
  '@fastify/rate-limit': HTTP,
  'Points per duration': { ...FIVE_IN_TEN_SECONDS, differs: aroundTheEnd(10, 5) },
  'Several limits': {
    names: 'isAllowed',
    calls: async ({ isAllowed }) => {
      const found: unknown[] = [];
      for (let second = 0; second < 4; second += 1) {
        found.push(await admitted(2, () => isAllowed?.('a')));
        wait(1.1);
      }
      return found;
    },
    expected: [2, 2, 2, 0],
    differs: {
      calls: async ({ isAllowed }) => {
        const found: unknown[] = [];
        for (let second = 0; second < 3; second += 1) {
          found.push(await admitted(3, () => isAllowed?.('a')));
          wait(1.1);
        }
        return found;
      },
      before: [2, 2, 0],
      after: [2, 2, 2],
    },
  },
  'Logins and blocks': {
    names: 'login',
    calls: async ({ login }) => {
      const found = [
        ...(await answers(4, () => login?.('a', false))),
        ...(await answers(5, () => login?.('b', true))),
      ];
      wait(1000);
      found.push(await login?.('a', true));
      wait(2601);
      return [...found, await login?.('a', true)];
    },
    expected: [401, 401, 401, 429, 200, 200, 200, 200, 200, 429, 200],
  },
  'Penalties, rewards and blocks by hand': {
    names: 'isAllowed, penalize, reward, block, pardon',
    calls: async ({ isAllowed, penalize, reward, block, pardon }) => {
      const found = [await admitted(2, () => isAllowed?.('a'))];
      await penalize?.('a');
      await reward?.('a');
      found.push(await admitted(8, () => isAllowed?.('a')));
      await pardon?.('a');
      await block?.('b');
      await block?.('c');
      await pardon?.('c');
      const one = async (peer: string) => found.push(await admitted(1, () => isAllowed?.(peer)));
      for (const peer of ['a', 'b', 'c']) await one(peer);
      wait(599);
      await one('b');
      wait(2);
      await one('b');
      return found;
    },
    expected: [2, 6, 1, 0, 1, 0, 1],
    differs: {
      // A reward that was not used up: 12 of 10 points.
      calls: async ({ isAllowed, reward }) => {
        await reward?.('a');
        return [await admitted(15, () => isAllowed?.('a'))];
      },
      before: [12],
      after: [10],
    },
  },
  limiter: FIVE_IN_TEN_SECONDS,
};

/** The functions of a program. Those of an app send it requests. */
async function start(program: string, names: string, engine: EngineName): Promise<Program> {
  const load = loader(engine);
  const found = (await runProgram(program, { load }, `{ ${names} }`)) as Program;
  const { app } = found;
  if (app === undefined) return found;
  const ask = 'inject' in app ? injected(app as unknown as FastifyInstance) : handled(app);
  return {
    isAllowed: (peer) => ask('GET', '/', peer as string),
    login: (peer) => ask('POST', '/login', peer as string),
  };
}

type Ask = (method: string, url: string, peer: string) => Promise<boolean>;

const addressOf = (peer: string) => `192.0.2.${peer.charCodeAt(0)}`;

function injected(app: FastifyInstance): Ask {
  return async (method, url, peer) => {
    const given = { method: method as 'GET', url, remoteAddress: addressOf(peer) };
    const { statusCode } = await app.inject(given);
    expect([200, 429]).toContain(statusCode);
    return statusCode === 200;
  };
}

function handled(app: unknown): Ask {
  return async (method, url, peer) => {
    const { passed, error, status } = await outcomeOf(
      app as Middleware,
      request(method, url, peer),
    );
    expect(error).toBe(undefined);
    return passed || status === 200;
  };
}

function request(method: string, url: string, peer: string): IncomingMessage {
  return Object.assign(requestFrom({ address: addressOf(peer), method }), { url });
}

/** Without a server there are no other timers, so these need not be replaced. */
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the migration guide for servers', () => {
  const python = PAIRS.filter(({ before }) => before.language === 'python');

  it('has a test for every pair', () => {
    const tested = [...Object.keys(SCENARIOS), ...REAL, '@nestjs/throttler', ...names(python)];
    expect(names(PAIRS).sort()).toEqual(tested.sort());
  });

  describe.each(ENGINES)('with the %s engine', (engine) => {
    it.each(Object.keys(SCENARIOS))('admits the same with both packages: %s', async (name) => {
      const { names, calls, expected, differs } = SCENARIOS[name] as Scenario;
      const { before, after } = pair(name);
      expect(await calls(await start(before.code, names, engine))).toEqual(expected);
      expect(await calls(await start(after.code, names, engine))).toEqual(expected);
      if (differs === undefined) return;
      expect(await differs.calls(await start(before.code, names, engine))).toEqual(differs.before);
      expect(await differs.calls(await start(after.code, names, engine))).toEqual(differs.after);
    });

    it('admits as the throttler says: @nestjs/throttler', async () => {
      const { before, after } = pair('@nestjs/throttler');
      const [, ttl, limit] = /ttl: ([\d_]+), limit: (\d+)/.exec(before.code) as RegExpExecArray;
      const guards: { canActivate: (context: object) => Promise<boolean> }[] = [];
      const app = { useGlobalGuards: (guard: never) => guards.push(guard) };
      await runProgram(after.code, { load: loader(engine), app });
      const ask = (peer: string) =>
        outcomeOf(
          (request, response, next) => {
            const http = { getRequest: () => request, getResponse: () => response };
            const context = { getType: () => 'http', switchToHttp: () => http };
            guards[0]?.canActivate(context).then(() => next(), next);
          },
          requestFrom({ address: addressOf(peer) }),
        );
      const passes = async (peer: string) => (await ask(peer)).passed;
      expect(await admitted(Number(limit) + 2, () => passes('a'))).toBe(Number(limit));
      expect((await ask('a')).error).toMatchObject({ status: 429 });
      expect(await admitted(1, () => passes('b'))).toBe(1);
      wait(Number(ttl?.replace('_', '')) / 1000 + 1);
      expect(await admitted(Number(limit) + 2, () => passes('a'))).toBe(Number(limit));
    });

    it.each(python)('prints what it says: $name', async ({ after }) => {
      const lines: string[] = [];
      const say = (...given: unknown[]) => lines.push(given.map(inWords).join(' '));
      // `limiter.call(); // value` prints the value.
      const code = after.code.replace(/^(limiter\..*); \/\/ /gm, 'console.log($1); // ');
      const given = { load: loader(engine), nick: 'nick', connection: 'c', console: { log: say } };
      await runProgram(code, given);
      const expected = [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map(
        ([, text]) => text,
      );
      const IN_WORDS = 'allow 0, three times; delay 0.5; disconnect 0';
      const said = [...Array(3).fill('allow 0'), 'delay 0.5', 'disconnect 0'];
      expect(lines).toEqual(expected.flatMap((text) => (text === IN_WORDS ? said : [text])));
      expect(lines.length).toBeGreaterThan(2);
    });
  });

  it.each(python)('has the names of the reference: $name', ({ name, before, after }) => {
    const reference = namesOfReference(name);
    const used = (found: RegExp) =>
      [...before.code.matchAll(found)].map(([, word]) => word as string);
    const calls = used(/limiter\.(\w+)\(/g);
    const options = used(/(\w+)=/g);
    const statistics = used(/\["(\w+)"\]/g);
    expect(calls.filter((word) => !reference.calls.has(word))).toEqual([]);
    expect(options.filter((word) => !reference.options.has(word))).toEqual([]);
    expect(statistics.filter((word) => !reference.statistics.has(word))).toEqual([]);
    // Nothing of the reference's interface is left out but private methods.
    expect([...reference.calls].filter((word) => !calls.includes(word))).toEqual([]);
    for (const [words, pattern] of [
      [calls, /limiter\.(\w+)\(/g],
      [options, /(\w+): /g],
      [statistics, /\(\)\.(\w+);/g],
    ] as const) {
      const ours = [...after.code.matchAll(pattern)].map(([, word]) => word);
      expect(ours).toEqual(words.map(camelCase));
    }
    const values = (code: string) =>
      [...code.matchAll(/^limiter\..*(?:;| ) (?:#|\/\/) (.*)$/gm)].map(([, text]) =>
        text?.toLowerCase(),
      );
    expect(values(after.code)).toEqual(values(before.code));
  });
});

const names = (pairs: readonly Pair[]) => pairs.map(({ name }) => name);

function pair(name: string): Pair {
  return PAIRS.find((each) => each.name === name) as Pair;
}

function inWords(value: unknown): string {
  return Array.isArray(value) ? `[ ${value.join(', ')} ]` : String(value);
}

/** The names that the golden traces of a class have: public methods, options, and keys of statistics. */
function namesOfReference(name: string) {
  const folder = new URL('traces/dev/', import.meta.url);
  const found = {
    calls: new Set<string>(),
    options: new Set<string>(),
    statistics: new Set<string>(),
  };
  for (const file of readdirSync(folder).filter((file) => file.startsWith(`${name}-`))) {
    const { header, operations } = readTrace(new URL(file, folder));
    for (const option of Object.keys(header.args)) found.options.add(option);
    for (const [call, ...rest] of operations as [string, ...unknown[]][]) {
      if (['advance', 'set', 'get'].includes(call) || call.startsWith('_')) continue;
      found.calls.add(call);
      if (!call.startsWith('get_stat')) continue;
      for (const key of Object.keys(rest.at(-1) as object)) found.statistics.add(key);
    }
  }
  return found;
}

// Through ioredis, which writes each call by itself, the calls of one turn of the event loop are written together, except the
// first.

import { EventEmitter } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { createStoreClient } from '../../lib/redis/store/client.js';

class Stream {
  readonly #name: string;
  readonly #log: string[];

  constructor(name: string, log: string[]) {
    this.#name = name;
    this.#log = log;
  }

  cork(): void {
    this.#log.push(`${this.#name} holds`);
  }

  uncork(): void {
    this.#log.push(`${this.#name} writes`);
  }
}

/** A client as of ioredis, with a connection or without one. */
function createClient(log: string[], stream?: object) {
  return Object.assign(new EventEmitter(), {
    stream,
    evalsha: async (_sha: string, _count: number, key: string) => log.push(key),
    eval: async () => undefined,
    duplicate: () => undefined,
  });
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('A client of ioredis', () => {
  it('writes the calls of one turn together, and those of the next one after them', async () => {
    const log: string[] = [];
    const store = createStoreClient(createClient(log, new Stream('first', log)));
    const call = (key: string) => store.evalSha('sha', [key], ['1']);
    call('a');
    call('b').then(() => call('c'));
    await turn();
    call('d');
    call('e');
    await turn();
    expect(log).toEqual([
      ...['a', 'first holds', 'b', 'c', 'first writes'],
      ...['d', 'first holds', 'e', 'first writes'],
    ]);
  });

  it('writes a single call at once', async () => {
    const log: string[] = [];
    const store = createStoreClient(createClient(log, new Stream('first', log)));
    for (const key of ['a', 'b']) {
      store.evalSha('sha', [key], ['1']);
      await turn();
    }
    expect(log).toEqual(['a', 'b']);
  });

  it('holds back no call for longer, also if timers are faked', async () => {
    const log: string[] = [];
    const faked = vi.spyOn(process, 'nextTick').mockImplementation(() => {});
    const store = createStoreClient(createClient(log, new Stream('first', log)));
    for (const key of ['a', 'b']) store.evalSha('sha', [key], ['1']);
    faked.mockRestore();
    await turn();
    expect(log).toEqual(['a', 'first holds', 'b', 'first writes']);
  });

  it('writes what an old connection holds when there is a new one', async () => {
    const log: string[] = [];
    const client = createClient(log, new Stream('first', log));
    const store = createStoreClient(client);
    for (const key of ['a', 'b']) store.evalSha('sha', [key], ['1']);
    client.stream = new Stream('second', log);
    store.evalSha('sha', ['c'], ['1', '2']);
    await turn();
    expect(log).toEqual([
      ...['a', 'first holds', 'b', 'first writes'],
      ...['second holds', 'c', 'second writes'],
    ]);
  });

  it('needs no connection that can hold back its writes', async () => {
    for (const stream of [undefined, {}]) {
      const log: string[] = [];
      const store = createStoreClient(createClient(log, stream));
      for (const key of ['a', 'b']) store.evalSha('sha', [key], ['1']);
      await turn();
      expect(log).toEqual(['a', 'b']);
    }
  });
});

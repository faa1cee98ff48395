// The node file of UpstreamPool: what is read, and that every error message names the host.

import { UpstreamPool } from 'relay-limiter/client';
import { describe, expect, it } from 'vitest';

const FILE = {
  'one.example': { policies: [{ w: 60, v: 240 }] },
  'two.example:8443': {
    single_block: true,
    policies: [
      { w: 1, v: 10, name: 'burst', note: 'as the operator says' },
      { w: 600, v: 1800 },
    ],
  },
};

describe('a node file', () => {
  it('is read as an object or as JSON text, and other keys are ignored', () => {
    const hosts = ['one.example', 'two.example:8443'];
    expect(new UpstreamPool(FILE).nodes).toEqual(hosts);
    expect(new UpstreamPool(JSON.stringify(FILE)).nodes).toEqual(hosts);
  });

  it('gives each node its policies with window and quota', async () => {
    const pool = new UpstreamPool(FILE, { algorithm: 'sliding', clock: () => 0 });
    const { policies } = pool.snapshot().nodes['two.example:8443'] ?? {};
    expect(policies).toEqual([
      { name: 'burst', quota: 10, windowSeconds: 1, state: [] },
      { name: null, quota: 1800, windowSeconds: 600, state: [] },
    ]);
  });

  it('may begin with a byte order mark', () => {
    expect(new UpstreamPool(`\ufeff${JSON.stringify(FILE)}`).nodes).toHaveLength(2);
  });

  it('may count units, and say how requests are sent', () => {
    const policies = [{ w: 60, v: 900, unit: 'tokens' }];
    const pool = new UpstreamPool({
      a: { policies, path: '/v1/', headers: { 'x-a': 'b' }, key: 'k', timeoutSeconds: 3 },
      b: { policies },
    });
    expect(pool.settingsOf('a')).toMatchObject({
      policies: [{ quota: 900, windowSeconds: 60, unit: 'tokens' }],
      path: '/v1',
      headers: [
        ['x-a', 'b'],
        ['authorization', 'Bearer k'],
      ],
      timeoutSeconds: 3,
    });
    expect(pool.settingsOf('b')).toMatchObject({
      path: '',
      headers: [],
      timeoutSeconds: undefined,
    });
    expect(pool.settingsOf('c')).toBeUndefined();
  });

  it.each([
    ['a // comment', '{\n  "a": { "policies": [{ "w": 60, "v": 5 }] } // mine\n}', 2],
    ['a /* comment', '\ufeff{\r\n\r\n/* mine */ "a": 1 }', 3],
    ['a # comment', '# mine\n{}', 1],
    ['a missing comma', '{\n  "http://a": 1\n  "b": 2\n}', 3],
  ])('names the line of %s', (_, text, line) => {
    expect(() => new UpstreamPool(text)).toThrow(new RegExp(`must be JSON.*line ${line}\\b`, 's'));
  });

  it('may have a host with the name of an object member', () => {
    const text = '{ "__proto__": { "policies": [{ "w": 1, "v": 1 }] } }';
    expect(new UpstreamPool(text).nodes).toEqual(['__proto__']);
    expect(Object.keys(new UpstreamPool(text).state().nodes)).toEqual(['__proto__']);
  });

  const good = { w: 60, v: 240 };
  it.each<[what: string, file: unknown, message: RegExp]>([
    ['invalid JSON', '{ "a": ', /node file must be JSON: /],
    ['nothing', undefined, /node file must be an object .*got undefined/],
    ['null', 'null', /node file must be an object .*got null/],
    ['an array', [], /node file must be an object .*got an array/],
    ['no nodes', {}, /node file must name a node/],
    ['a node that is null', { 'a.example': null }, /node "a\.example" must have policies/],
    ['a node without policies', { 'a.example': {} }, /node "a\.example" must have policies/],
    ['no policy', { 'a.example': { policies: [] } }, /node "a\.example" must have policies/],
    [
      'a policy that is a number',
      { a: { policies: [7] } },
      /node "a", policies\[0\] must be an object/,
    ],
    ['no window', { a: { policies: [good, { v: 1 }] } }, /node "a", policies\[1\]\.w .*undefined/],
    ['no quota', { a: { policies: [{ w: 1 }] } }, /node "a", policies\[0\]\.v must be .*undefined/],
    ['a quota of 0', { a: { policies: [{ w: 1, v: 0 }] } }, /node "a", policies\[0\]\.v .*got 0/],
    ['a window of -1', { a: { policies: [{ w: -1, v: 1 }] } }, /policies\[0\]\.w .*got -1/],
    ['an infinite window', { a: { policies: [{ w: Infinity, v: 1 }] } }, /\.w .*got Infinity/],
    ['a window as text', { a: { policies: [{ w: '60', v: 1 }] } }, /\.w .*got "60"/],
    [
      'a name that is a number',
      { a: { policies: [{ ...good, name: 5 }] } },
      /node "a": .*name .*got 5/,
    ],
    [
      'two policies with the same window',
      { a: { policies: [good, good] } },
      /node "a": policies\[1\] must differ/,
    ],
    [
      'an empty unit',
      { a: { policies: [{ ...good, unit: '' }] } },
      /node "a": policies\[0\]\.unit must be a unit/,
    ],
    ['a path without a slash', { a: { policies: [good], path: 'v1' } }, /node "a": path must be/],
    ['a path with a query', { a: { policies: [good], path: '/v1?a' } }, /node "a": path must be/],
    ['headers in an array', { a: { policies: [good], headers: [] } }, /node "a": headers must be/],
    [
      'a header with a line break',
      { a: { policies: [good], headers: { x: 'secret\n' } } },
      /^node "a": the header "x" must be a string of printable characters$/,
    ],
    [
      'a name of a header with a space',
      { a: { policies: [good], headers: { 'x y': '1' } } },
      /node "a": "x y" is no name of a header/,
    ],
    [
      'a key with a line break',
      { a: { policies: [good], key: 'secret\n' } },
      /^node "a": key must be a string that a header can contain$/,
    ],
    [
      'a timeout of 0',
      { a: { policies: [good], timeoutSeconds: 0 } },
      /node "a": timeoutSeconds must be .*got 0/,
    ],
    [
      'a valid node and an invalid one',
      { 'good.example': { policies: [good] }, 'bad.example': { policies: [] } },
      /node "bad\.example"/,
    ],
  ])('is rejected: %s', (_, file, message) => {
    const make = () => new UpstreamPool(file as string);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
    expect(make).toThrow(message);
  });
});

describe('the options of a pool', () => {
  it.each<[options: unknown, message: RegExp]>([
    [null, /options of UpstreamPool must be an object/],
    [{ policies: [] }, /unknown option "policies" of UpstreamPool/],
    [{ burstShare: 1 }, /burstShare must be/],
    [{ clock: 7 }, /clock must be a function/],
  ])('are rejected: %o', (options, message) => {
    const make = () => new UpstreamPool(FILE, options as object);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_LIMITER_OPTION' }));
    expect(make).toThrow(message);
  });
});

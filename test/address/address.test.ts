import type { Socket } from 'node:net';
import fc from 'fast-check';
import { addressKey, addressResolver, clientAddress, connectionKey } from 'relay-limiter/address';
import { describe, expect, test } from 'vitest';
import { codeOf } from '../support/limiters.js';
import { runs } from '../support/runs.js';

const request = (remoteAddress: string | undefined, forwarded?: string) => ({
  socket: { remoteAddress } as Socket,
  headers: forwarded === undefined ? {} : { 'x-forwarded-for': forwarded },
});

describe('addressKey', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['192.0.2.1:8080', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:201', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:443', '192.0.2.1'],
    ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
    ['64:ff9b::192.0.2.1', '192.0.2.1'],
    ['64:ff9b::c000:201', '192.0.2.1'],
    // Prefixes for local use: each site chooses the layout.
    ['64:ff9b:1::192.0.2.1', '64:ff9b:1::/64'],
    ['64:ff9b:1:c000:2:100::', '64:ff9b:1:c000::/64'],
    ['64:ff9b:0:0:0:1:c000:201', '64:ff9b::/64'],
    ['2001:db8::1', '2001:db8::/64'],
    ['2001:DB8:0:0:1234:5678:9abc:def0', '2001:db8::/64'],
    ['2001:0db8:0000:0001:ffff::', '2001:db8:0:1::/64'],
    ['[2001:db8::1]', '2001:db8::/64'],
    ['[2001:db8::1]:8080', '2001:db8::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['[fe80::1%25eth0]:80', 'fe80::/64'],
    ['::1', '::/64'],
    // Not IPv4: a deprecated notation, and 6to4, where each site has a network of its own.
    ['::192.0.2.1', '::/64'],
    ['2002:c000:201:7::1', '2002:c000:201:7::/64'],
  ])('maps %s to %s', (address, key) => {
    expect(addressKey(address)).toBe(key);
  });

  test.each([
    ['2001:db8:aabb:ccdd::1', { ipv6Subnet: 56 }, '2001:db8:aabb:cc00::/56'],
    ['2001:db8:aabb:ccdd::1', { ipv6Subnet: 49 }, '2001:db8:aabb:8000::/49'],
    ['2001:db8:ffff::1', { ipv6Subnet: 33 }, '2001:db8:8000::/33'],
    ['8001::1', { ipv6Subnet: 1 }, '8000::/1'],
    ['2001:db8::1', { ipv6Subnet: 128 }, '2001:db8::1'],
    ['192.0.2.129', { ipv4Subnet: 24 }, '192.0.2.0/24'],
    ['192.0.2.129', { ipv4Subnet: 25 }, '192.0.2.128/25'],
    ['::ffff:192.0.2.129', { ipv4Subnet: 31, ipv6Subnet: 10 }, '192.0.2.128/31'],
  ])('maps %s with %o to %s', (address, options, key) => {
    expect(addressKey(address, options)).toBe(key);
  });

  test.each([
    ...['', ' ', 'localhost', 'example.org', '1', '127.1', '0x7f.0.0.1', '010.0.0.1', '2130706433'],
    ...['256.0.0.1', '1.2.3.4.5', '1.2.3', '1.2.3.4:', '1.2.3.4:port', '1.2.3.4%eth0', '1.2.3.4/8'],
    ...[
      ' 1.2.3.4',
      '1.2.3.4\n',
      '[1.2.3.4]',
      '[1.2.3.4]:80',
      '[::1',
      '::1]',
      '[]',
      '[]:80',
      '::1::',
    ],
    ...[
      '2001:db8::/32',
      '%eth0',
      '[::1]80',
      '::ffff:1.2.3',
      '::ffff:010.0.0.1',
      ':::',
      '1:2:3:4:5:6:7:8:9',
    ],
    ...[undefined, null, 0, 1, {}, [], ['1.2.3.4'], true, Symbol('a')],
  ])('rejects %j', (address) => {
    expect(codeOf(() => addressKey(address as string))).toBe('ERR_LIMITER_KEY');
  });

  test('rejects invalid options', () => {
    for (const bits of [0, -1, 129, 1.5, NaN, '64', null, Infinity]) {
      expect(codeOf(() => addressKey('::1', { ipv6Subnet: bits as number }))).toBe(
        'ERR_LIMITER_OPTION',
      );
    }
    expect(codeOf(() => addressKey('::1', { ipv4Subnet: 33 }))).toBe('ERR_LIMITER_OPTION');
    expect(codeOf(() => addressKey('::1', { subnet: 64 } as object))).toBe('ERR_LIMITER_OPTION');
  });

  test('gives two addresses the same key if and only if their leading bits are equal', () => {
    const address = fc.array(fc.nat(0xffff), { minLength: 8, maxLength: 8 });
    const text = (parts: number[]) => parts.map((part) => part.toString(16)).join(':');
    const bits = (parts: number[]) =>
      parts.map((part) => part.toString(2).padStart(16, '0')).join('');
    const isOne = (parts: number[]) => /^(0:0:0:0:0:ffff|64:ff9b:0:0:0:0):/.test(text(parts));
    fc.assert(
      fc.property(
        address,
        fc.nat(127),
        fc.integer({ min: 1, max: 128 }),
        (a, flipped, ipv6Subnet) => {
          const b = [...a];
          b[flipped >> 4] = (b[flipped >> 4] as number) ^ (0x8000 >> (flipped & 15));
          fc.pre(!isOne(a) && !isOne(b));
          const same = bits(a).slice(0, ipv6Subnet) === bits(b).slice(0, ipv6Subnet);
          const keys = [a, b].map((parts) => addressKey(text(parts), { ipv6Subnet }));
          expect(keys[0] === keys[1]).toBe(same);
          // The key of the address in a key is the same key.
          const [own] = (keys[0] as string).split('/') as [string];
          expect(addressKey(own, { ipv6Subnet })).toBe(keys[0]);
        },
      ),
      runs(),
    );
  });

  test('returns a key or throws an error with a code for any value', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.ipV4Extended()), (text) => {
        try {
          expect(addressKey(text)).toMatch(/^(\d+\.\d+\.\d+\.\d+|[\da-f:]+\/64)$/);
        } catch (error) {
          expect(error).toHaveProperty('code', 'ERR_LIMITER_KEY');
        }
      }),
      runs(),
    );
  });
});

describe('clientAddress', () => {
  test('ignores headers without trusted proxies', () => {
    expect(clientAddress(request('192.0.2.1', '198.51.100.7'))).toBe('192.0.2.1');
    expect(clientAddress(request('127.0.0.1', '198.51.100.7'))).toBe('127.0.0.1');
  });

  test('trusts only the named proxies', () => {
    const resolve = addressResolver({
      trustedProxies: ['loopback', '10.0.0.0/8', '2001:db8::/32'],
    });
    expect(resolve(request('127.0.0.1', '198.51.100.7'))).toBe('198.51.100.7');
    expect(resolve(request('::ffff:127.0.0.1', '198.51.100.7'))).toBe('198.51.100.7');
    expect(resolve(request('2001:db8::9', '198.51.100.7, 10.1.1.1'))).toBe('198.51.100.7');
    // The client's entries come before the entry that the proxy added.
    expect(resolve(request('127.0.0.1', '203.0.113.1, 198.51.100.7'))).toBe('198.51.100.7');
    expect(resolve(request('198.51.100.9', '127.0.0.1'))).toBe('198.51.100.9');
    expect(resolve(request('127.0.0.1'))).toBe('127.0.0.1');
  });

  test('ignores white space around entries and empty entries', () => {
    const resolve = addressResolver({ trustedProxies: ['loopback', '10.0.0.0/8'] });
    for (const header of [
      '198.51.100.7,10.1.1.1',
      '198.51.100.7,\t10.1.1.1',
      '198.51.100.7\t,\t10.1.1.1\t',
      ' \t198.51.100.7 \t, \t 10.1.1.1 \t ',
      '198.51.100.7,,\t,10.1.1.1,',
      ',198.51.100.7',
    ]) {
      expect(resolve(request('127.0.0.1', header))).toBe('198.51.100.7');
    }
    expect(resolve(request('127.0.0.1', '203.0.113.1,\t198.51.100.7'))).toBe('198.51.100.7');
  });

  test('reads at most the last 32 entries', () => {
    const chain = (hops: number) =>
      `198.51.100.7, ${Array.from({ length: hops }, (_, hop) => `10.0.0.${hop + 1}`).join(', ')}`;
    let asked = 0;
    const trustedProxies = () => {
      asked += 1;
      return true;
    };
    const resolve = addressResolver({ trustedProxies });
    expect(resolve(request('127.0.0.1', chain(31)))).toBe('198.51.100.7');
    expect(resolve(request('127.0.0.1', chain(32)))).toBe('10.0.0.1');
    asked = 0;
    // About the 16 KiB of headers that a server of Node accepts.
    expect(resolve(request('127.0.0.1', `${'10.0.0.9,'.repeat(1600)}10.0.0.8`))).toBe('10.0.0.9');
    expect(asked).toBe(32);
    expect(resolve(request('127.0.0.1', `198.51.100.7${','.repeat(15_000)}`))).toBe('127.0.0.1');
  });

  test('ignores ports, brackets and zones of proxies', () => {
    const resolve = addressResolver({ trustedProxies: ['loopback', 'linklocal'] });
    expect(resolve(request('fe80::1%eth0', '198.51.100.7:4711'))).toBe('198.51.100.7');
    expect(resolve(request('::1', '[2001:db8::1]:443, 127.0.0.1:80'))).toBe('2001:db8::1');
  });

  test('accepts a comma-separated list, like Express and Fastify', () => {
    const resolve = addressResolver({ trustedProxies: 'loopback, 10.0.0.0/8,2001:db8::/32' });
    for (const proxy of ['127.0.0.1', '10.1.1.1', '2001:db8::1']) {
      expect(resolve(request(proxy, '198.51.100.7'))).toBe('198.51.100.7');
    }
    expect(resolve(request('192.0.2.1', '198.51.100.7'))).toBe('192.0.2.1');
  });

  test('does not trust a translated address as its IPv4 address', () => {
    const loopback = addressResolver({ trustedProxies: ['loopback', '10.0.0.0/8'] });
    for (const address of ['64:ff9b::7f00:1', '64:ff9b::10.0.0.1', '64:ff9b:1:dead::127.0.0.1']) {
      expect(loopback(request(address, '198.51.100.7'))).toBe(address);
      expect(addressKey(loopback(request('127.0.0.1', `198.51.100.7, ${address}`)))).toBe(
        addressKey(address),
      );
    }
    const translator = addressResolver({ trustedProxies: '64:ff9b::/96' });
    expect(translator(request('64:ff9b::7f00:1', '198.51.100.7'))).toBe('198.51.100.7');
  });

  test("returns the proxy's address for an invalid entry, and never throws", () => {
    const resolve = addressResolver({ trustedProxies: 'loopback' });
    for (const garbage of [
      'unknown',
      '',
      ',',
      ' , ,',
      '_hidden',
      '1',
      '::ffff:',
      'a'.repeat(9000),
    ]) {
      expect(resolve(request('127.0.0.1', garbage))).toBe('127.0.0.1');
    }
    expect(resolve(request('127.0.0.1', 'victim.example, 127.0.0.2'))).toBe('127.0.0.2');
    fc.assert(
      fc.property(fc.string(), (header) => {
        expect(() => addressKey(resolve(request('127.0.0.1', header)) as string)).not.toThrow();
      }),
      runs(),
    );
  });

  test('accepts a function, which decides about Unix sockets too', () => {
    const asked: unknown[] = [];
    const trustedProxies = (address: string | undefined, hop: number) => {
      asked.push([address, hop]);
      return address === undefined;
    };
    expect(clientAddress(request(undefined, '198.51.100.7, 10.0.0.1'), { trustedProxies })).toBe(
      '10.0.0.1',
    );
    expect(asked).toEqual([
      [undefined, 0],
      ['10.0.0.1', 1],
    ]);
  });

  test('returns undefined without an address', () => {
    expect(clientAddress(request(undefined, '198.51.100.7'))).toBeUndefined();
    expect(
      clientAddress(request(undefined, '198.51.100.7'), { trustedProxies: 'loopback' }),
    ).toBeUndefined();
  });

  test('returns undefined for a request without a socket', () => {
    const headers = { 'x-forwarded-for': '198.51.100.7' };
    expect(clientAddress({ headers })).toBeUndefined();
    expect(clientAddress({ headers }, { trustedProxies: 'loopback' })).toBeUndefined();
    const trustedProxies = (_: unknown, hop: number) => hop === 0;
    expect(clientAddress({ headers }, { trustedProxies })).toBe('198.51.100.7');
  });

  test('rejects invalid proxies', () => {
    for (const trustedProxies of [
      '',
      'proxy.example',
      '10.0.0.0/33',
      '0.0.0.0/0',
      'loopback,',
      ['::1', ''],
      [1],
      1,
      true,
      null,
    ]) {
      expect(codeOf(() => addressResolver({ trustedProxies } as object))).toBe(
        'ERR_LIMITER_OPTION',
      );
    }
    expect(codeOf(() => addressResolver({ trust: 'loopback' } as object))).toBe(
      'ERR_LIMITER_OPTION',
    );
    expect(clientAddress(request('127.0.0.1', '192.0.2.1'), { trustedProxies: [] })).toBe(
      '127.0.0.1',
    );
  });
});

describe('connectionKey', () => {
  test('returns one unique, constant key per connection', () => {
    const sockets = Array.from({ length: 1000 }, () => ({}));
    const keys = sockets.map(connectionKey);
    expect(new Set(keys).size).toBe(1000);
    expect(sockets.map(connectionKey)).toEqual(keys);
  });

  test('rejects values that are no objects', () => {
    for (const value of ['socket', 1, null, undefined, Symbol('a')]) {
      expect(codeOf(() => connectionKey(value as unknown as object))).toBe('ERR_LIMITER_KEY');
    }
  });
});

// Addresses and networks of allow and deny lists.

import { expect, test } from 'vitest';
import { AddressList, readNetwork } from '../../dist/rules/networks.js';

const listOf = (...texts: string[]) =>
  new AddressList(
    texts.map((text) => {
      const network = readNetwork(text);
      if (network === undefined) throw new Error(`${text} is no network`);
      return network;
    }),
  );
const has = (list: AddressList, text: string) => {
  const network = readNetwork(text);
  return network !== undefined && list.has(network);
};

test.each([
  [
    '10.0.0.0/8',
    ['10.0.0.0', '10.255.255.255', '::ffff:10.1.2.3', '64:ff9b::a01:203', '10.1.0.0/16'],
    ['9.255.255.255', '11.0.0.0', '10.0.0.0/7', '::a01:203'],
  ],
  ['10.1.2.3/8', ['10.0.0.0'], ['11.0.0.0']],
  ['192.0.2.7', ['192.0.2.7', '::ffff:c000:207'], ['192.0.2.6', '192.0.2.8', '192.0.2.6/31']],
  ['2001:db8::5', ['2001:db8::5', '2001:DB8:0:0::5'], ['2001:db8::/64', '2001:db8::4']],
  [
    '2001:db8::/32',
    ['2001:db8:ffff::1', '2001:db8::/64', '2001:db8::/32'],
    ['2001:db7::', '2001:db9::', '2001:db8::/31'],
  ],
  ['::ffff:10.0.0.0/104', ['10.9.9.9'], ['11.0.0.0']],
  ['64:ff9b::/96', [], ['2001:db8::1']],
  ['255.255.255.255', ['255.255.255.255'], ['0.0.0.0']],
  ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'], ['::']],
])('the network %s has %j and not %j', (network, inside, outside) => {
  const list = listOf(network);
  expect(inside.filter((text) => !has(list, text))).toEqual([]);
  expect(outside.filter((text) => has(list, text))).toEqual([]);
});

test('networks in one list join, whatever their order', () => {
  const list = listOf('10.0.0.128/25', '192.0.2.0/24', '10.0.0.0/25', '10.0.0.64/26', '::1');
  expect(['10.0.0.0/24', '10.0.0.200', '192.0.2.1', '::1'].every((text) => has(list, text))).toBe(
    true,
  );
  expect(['10.0.1.0', '10.0.0.0/23', '192.0.3.0', '::2'].some((text) => has(list, text))).toBe(
    false,
  );
});

test('an empty list has nothing', () => {
  expect(has(listOf(), '10.0.0.1')).toBe(false);
});

test('each of many networks is found, and nothing between them', () => {
  const texts = Array.from({ length: 1000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/25`);
  const list = listOf(...texts.reverse());
  for (let i = 0; i < 1000; i += 1) {
    expect(has(list, `10.${i >> 8}.${i & 255}.127`)).toBe(true);
    expect(has(list, `10.${i >> 8}.${i & 255}.128`)).toBe(false);
  }
});

test.each([
  '',
  'localhost',
  '10.0.0.0/',
  '10.0.0.0/33',
  '10.0.0.0/0',
  '::/0',
  '::/129',
  '2001:db8::/x',
  '10.0.0/8',
  '010.0.0.1',
  '1',
  '10.0.0.0/-1',
  '10.0.0.0/8/8',
  ' 10.0.0.0/8',
  '::ffff:0.0.0.0/96',
  '::ffff:10.0.0.0/90',
])('%j is no network', (text) => {
  expect(readNetwork(text)).toBeUndefined();
});

test.each([undefined, null, 10, {}, []])('%j is no network', (value) => {
  expect(readNetwork(value)).toBeUndefined();
});

import { isIP } from 'node:net';
import { describe, expect, test } from 'vitest';
import { readProxyHeader } from '../../dist/net/connections/proxy-header.js';
import { seeded } from '../support/random.js';
import { INVALID, VALID } from './proxy-headers.js';

const MAX_BYTES = 4096;

describe('readProxyHeader', () => {
  test.each(VALID)('reads %s', (_, header, client) => {
    expect(readProxyHeader(header)).toEqual({ length: header.length, client });
  });

  test.each(VALID)('reads %s in front of other bytes', (_, header, client) => {
    for (const rest of ['x', '\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n', 'y'.repeat(70_000)]) {
      const bytes = Buffer.concat([header, Buffer.from(rest)]);
      expect(readProxyHeader(bytes)).toEqual({ length: header.length, client });
    }
  });

  test.each(VALID)('waits for the rest of %s', (_, header) => {
    for (let length = 0; length < header.length; length += 1) {
      expect(readProxyHeader(header.subarray(0, length))).toBe('incomplete');
    }
  });

  test.each(INVALID)('rejects %s', (_, header) => {
    expect(readProxyHeader(header)).toBe('invalid');
  });

  test('never throws, and never changes its answer when more bytes come', () => {
    const random = seeded(20_261_129);
    const answers = { read: 0, incomplete: 0, invalid: 0 };
    for (let round = 0; round < 20_000; round += 1) {
      const bytes = Buffer.concat([random.pick(VALID)[1], Buffer.alloc(100, 'x')]);
      for (let change = random.below(4); change > 0; change -= 1) {
        bytes[random.below(bytes.length)] = random.below(256);
      }
      const part = bytes.subarray(0, random.below(bytes.length + 1));
      const answer = readProxyHeader(part);
      const later = readProxyHeader(bytes);
      if (answer === 'incomplete') {
        answers.incomplete += 1;
        expect(part.length).toBeLessThan(MAX_BYTES);
        continue;
      }
      expect(later).toEqual(answer);
      if (answer === 'invalid') {
        answers.invalid += 1;
        continue;
      }
      answers.read += 1;
      expect(answer.length).toBeLessThanOrEqual(part.length);
      if (answer.client === undefined) continue;
      const { remoteAddress, remotePort, remoteFamily } = answer.client;
      expect(`IPv${isIP(remoteAddress)}`).toBe(remoteFamily);
      expect(remotePort).toBeGreaterThanOrEqual(0);
      expect(remotePort).toBeLessThan(65_536);
    }
    for (const count of Object.values(answers)) expect(count).toBeGreaterThan(1000);
  });
});

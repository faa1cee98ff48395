// The entries for web-standard servers, bundled as for a platform without modules of Node, and run where only globals of
// the web standard exist.

import vm from 'node:vm';
import { build } from 'esbuild';
import { expect, test } from 'vitest';
import { ROOT } from '../support/processes.js';

const SCRIPT = `
  import { engineInfo, RateLimiter } from 'relay-limiter';
  import { rateLimit } from 'relay-limiter/fetch';
  import { guardWebSockets } from 'relay-limiter/websocket';

  async function answers() {
    const limit = rateLimit({ limit: 1, windowSeconds: 3600 });
    const request = () => new Request('http://localhost/', { headers: { forwarded: 'for=a' } });
    const statuses = [];
    for (let n = 0; n < 2; n += 1) {
      const response = await limit(request(), () => new Response('ok'), { address: '192.0.2.1' });
      statuses.push(response.status);
    }
    return statuses;
  }

  function messages() {
    const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 5 });
    const guard = guardWebSockets({ messages: { limiter, cost: 'bytes' } });
    const socket = Object.assign(new EventTarget(), { close() {} });
    const received = [];
    guard.upgrade(new Request('http://localhost/'), {}, (admission) => admission.guard(socket));
    socket.addEventListener('message', ({ data }) => received.push(data));
    for (const data of ['é', '€', '!']) socket.dispatchEvent(new MessageEvent('message', { data }));
    return received;
  }

  globalThis.report = async () => ({
    engine: engineInfo().engine,
    statuses: await answers(),
    received: messages(),
  });
`;

test('relay-limiter/fetch and /websocket work with globals of the web standard only', async () => {
  const { outputFiles, warnings } = await build({
    stdin: { contents: SCRIPT, resolveDir: ROOT },
    bundle: true,
    platform: 'browser',
    format: 'iife',
    write: false,
    logLevel: 'silent',
  });
  expect(warnings).toEqual([]);
  const warned: unknown[] = [];
  const world = vm.createContext({
    console: { warn: (text: unknown) => warned.push(text) },
    ...{ crypto, performance, queueMicrotask, setTimeout, clearTimeout },
    ...{ Event, EventTarget, Headers, MessageEvent, Request, Response, TextDecoder, TextEncoder },
  });
  vm.runInContext(outputFiles[0]?.text ?? '', world);
  const { report } = world as { report(): Promise<object> };
  expect(await report()).toEqual({ engine: 'js', statuses: [200, 429], received: ['é', '€'] });
  expect(warned).toEqual([expect.stringMatching(/^WARN_LIMITER_PROXY: /)]);
});

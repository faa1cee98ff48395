// Warnings of likely mistakes in processes of their own: by real servers, and by a worker of a real cluster.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, run, runJson } from '../support/processes.js';

/** Makes a limit for each request; prints the codes of the warnings. */
const perRequest = (server: string, ask: string) => `
  import { once } from 'node:events';
  import { rateLimit } from 'relay-limiter/http';
  const codes = [];
  process.on('warning', ({ code }) => codes.push(code));
  const { createServer, ...module } = await import('${server}');
  const server = createServer(async (request, response) => {
    await null;
    rateLimit({ limit: 1 })(request, response, () => response.end('ok'));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = 'http://127.0.0.1:' + server.address().port;
  ${ask}
  console.log(JSON.stringify(codes));
  process.exit();
`;
const BY_FETCH = `for (let n = 0; n < 2; n += 1) await (await fetch(url)).text();`;
const BY_HTTP2 = `
  const session = module.connect(url);
  for (let n = 0; n < 2; n += 1) await once(session.request().resume().end(), 'end');
`;

describe('a limit that is made for each request', () => {
  test.each([
    ['node:http', BY_FETCH],
    ['node:http2', BY_HTTP2],
  ])('of %s is told once', (server, ask) => {
    expect(runJson(perRequest(server, ask))).toEqual(['WARN_LIMITER_PER_REQUEST']);
  });

  test('is not told where its code is switched off', () => {
    const script = perRequest('node:http', BY_FETCH);
    expect(run(script).stderr).toContain('WARN_LIMITER_PER_REQUEST');
    const flags = ['--disable-warning=WARN_LIMITER_PER_REQUEST'];
    expect(run(script, { flags })).toMatchObject({ status: 0, stderr: '' });
  });
});

test('a worker of a cluster tells of a limit of its own', () => {
  const worker = JSON.stringify(join(ROOT, 'test/guard/cluster-worker.mjs'));
  const script = `
    import cluster from 'node:cluster';
    import { once } from 'node:events';
    cluster.setupPrimary({ exec: ${worker}, execArgv: [], silent: true });
    const [code] = await once(cluster.fork(), 'message');
    console.log(JSON.stringify(code));
  `;
  expect(runJson(script)).toBe('WARN_LIMITER_CLUSTER');
});

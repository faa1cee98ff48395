// Warnings about likely mistakes, in separate processes: with real servers, and in a worker of a real cluster.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, run, runJson } from '../support/processes.js';

/** A script whose server creates a limit for each request, and which prints the codes of the warnings. */
const perRequest = (server: string, sendRequests: string) => `
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
  ${sendRequests}
  console.log(JSON.stringify(codes));
  process.exit();
`;
const BY_FETCH = `for (let n = 0; n < 2; n += 1) await (await fetch(url)).text();`;
const BY_HTTP2 = `
  const session = module.connect(url);
  for (let n = 0; n < 2; n += 1) await once(session.request().resume().end(), 'end');
`;

describe('WARN_LIMITER_PER_REQUEST', () => {
  test.each([
    ['node:http', BY_FETCH],
    ['node:http2', BY_HTTP2],
  ])('is emitted once for a limit per request of %s', (server, sendRequests) => {
    expect(runJson(perRequest(server, sendRequests))).toEqual(['WARN_LIMITER_PER_REQUEST']);
  });

  test('is not emitted if Node disables its code', () => {
    const script = perRequest('node:http', BY_FETCH);
    expect(run(script).stderr).toContain('WARN_LIMITER_PER_REQUEST');
    const flags = ['--disable-warning=WARN_LIMITER_PER_REQUEST'];
    expect(run(script, { flags })).toMatchObject({ status: 0, stderr: '' });
  });
});

test('a worker of a cluster emits WARN_LIMITER_CLUSTER for its own limit', () => {
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

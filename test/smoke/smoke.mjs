// What every runtime must do with the package as it is installed: plain JavaScript, run by
// scripts/test-runtimes.mjs in a folder where the package is. Its argument is JSON:
//
//   engine       the engine that must run by default
//   binary       the file of the package that must be loaded, where that is the native one
//   require      whether the runtime can require() an ES module
//   traces       files to replay
//   repeatsOnJs  whether to replay them on the TypeScript engine too, if it is not the default
//
// Prints what it did as JSON; whatever is wrong is thrown.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import * as library from 'relay-limiter';
import { readTrace, replay } from './replay.mjs';

const { engine, binary, require: requires, traces, repeatsOnJs } = JSON.parse(process.argv[2]);
const require = createRequire(import.meta.url);
const { exports, version } = JSON.parse(
  readFileSync(new URL('node_modules/relay-limiter/package.json', import.meta.url), 'utf8'),
);

async function everyEntryIsThere() {
  for (const name of Object.keys(exports).filter((name) => !name.endsWith('.json'))) {
    const entry = name.replace('.', 'relay-limiter');
    const imported = await import(entry);
    assert.notEqual(Object.keys(imported).length, 0, entry);
    if (!requires) continue;
    const required = require(entry);
    for (const key of Object.keys(imported)) assert.equal(required[key], imported[key], key);
  }
}

function theRightEngineRuns() {
  const info = library.engineInfo();
  assert.equal(info.engine, engine, info.reason);
  assert.equal(info.version, version);
  assert.equal(new library.RateLimiter().engine, engine);
  assert.equal(new library.RateLimiter({ engine: 'js' }).engine, 'js');
  if (engine === 'native') {
    assert.ok(info.path.replaceAll('\\', '/').endsWith(`relay-limiter/${binary}`), info.path);
    return;
  }
  assert.match(info.reason, /^no native binary for /);
  assert.throws(() => new library.RateLimiter({ engine: 'native' }), {
    code: 'ERR_LIMITER_ENGINE',
    message: /^the engine option asks for native, but no native binary for /,
  });
}

/** The golden traces, on the default engine and, if that is wanted, on the TypeScript engine. */
function tracesAreRepeated() {
  let operations = 0;
  for (const file of traces) {
    for (const name of new Set(repeatsOnJs ? [engine, 'js'] : [engine])) {
      try {
        operations += replay(readTrace(file), library, name);
      } catch (error) {
        throw new Error(`${file} on ${name}: ${error.message}`, { cause: error });
      }
    }
  }
  return operations;
}

/** Two at once, and this thread beside them: each loads the engine for itself. */
async function workersDoTheSame() {
  const files = traces.slice(0, 2);
  const workers = files.map(
    (file) => new Worker(new URL('worker.mjs', import.meta.url), { workerData: { engine, file } }),
  );
  const here = new library.RateLimiter({ engine, rateLimit: 1e-6, burstLimit: 1 });
  here.check('peer');
  const answers = workers.map(
    (worker) =>
      new Promise((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
      }),
  );
  for (const [index, operations] of (await Promise.all(answers)).entries()) {
    assert.equal(operations, readTrace(files[index]).operations.length);
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  assert.equal(here.check('peer')[0], 'delay');
}

/** Without a clock of the caller's: the engine's own must go on, and not too fast. */
async function theClockRuns() {
  const limiter = new library.RateLimiter({ rateLimit: 10, burstLimit: 1 });
  assert.equal(limiter.check('peer')[0], 'allow');
  const [action, seconds] = limiter.check('peer');
  assert.equal(action, 'delay');
  assert.ok(seconds > 0 && seconds <= 0.1, `${seconds}`);
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(limiter.check('peer')[0], 'allow');
}

/** Enough for tables that grow, split, and give their memory back. */
function manyPeersComeAndGo() {
  let now = 0;
  const limiter = new library.RateLimiter({ rateLimit: 1, burstLimit: 1, clock: () => now });
  for (let n = 0; n < 50_000; n += 1) assert.equal(limiter.check(`peer-${n}`)[0], 'allow');
  for (let n = 0; n < 50_000; n += 1000) assert.equal(limiter.check(`peer-${n}`)[0], 'delay');
  assert.equal(limiter.getStats().trackedPeers, 50_000);
  assert.equal(limiter.getStats().totalViolations, 50);
  now = 100;
  assert.equal(limiter.cleanupOldPeers(50), 50_000);
  assert.equal(limiter.getStats().trackedPeers, 0);
}

/** Two limiters of each kind; where there can be no such table, an error says so. */
function limitersShareATable() {
  const shared = `smoke-${process.pid}`;
  const slow = { rateLimit: 1e-6, burstLimit: 2 };
  const server = { scope: 'server', rateLimit: 1e-6, burstLimit: 100 };
  const options = {
    scopes: { peer: {}, server: { single: true } },
    rules: { messages: { scope: 'peer', ...slow }, server },
  };
  const rate = () => new library.RateLimiter({ ...slow, maxPeers: 1000, shared });
  const rules = () => new library.RuleLimiter({ ...options, maxPeers: 1000, shared });
  if (engine === 'js' || process.arch === 'arm') {
    const code = engine === 'js' ? 'ERR_LIMITER_ENGINE' : 'ERR_LIMITER_SHARED';
    for (const create of [rate, rules]) assert.throws(create, { code });
    return;
  }
  ofOneTable(rate, (first, second) => {
    assert.equal(first.check('peer', 2)[0], 'allow');
    assert.equal(second.check('peer')[0], 'delay');
    assert.equal(second.getStats().verdicts.allow, 1);
  });
  ofOneTable(rules, (first, second) => {
    assert.equal(first.check({ peer: 'a' }, 2).outcome, 'allow');
    assert.equal(second.check({ peer: 'a' }).rule, 'messages');
    assert.ok(first.ban('peer', 'b', 60));
    assert.equal(second.check({ peer: 'b' }).outcome, 'banned');
    second.update({ rules: { server: { ...server, burstLimit: 2 } } });
    assert.equal(first.check({ peer: 'a' }).rule, 'server');
  });
  assert.equal(library.removeShared(shared), false);

  function ofOneTable(create, use) {
    const [first, second] = [create(), create()];
    assert.equal(first.shared.attached, 2);
    use(first, second);
    for (const limiter of [first, first, second, second]) limiter.close();
    assert.equal(library.removeShared(shared), true);
  }
}

await everyEntryIsThere();
theRightEngineRuns();
const operations = tracesAreRepeated();
await workersDoTheSame();
await theClockRuns();
manyPeersComeAndGo();
limitersShareATable();
console.log(JSON.stringify({ engine: library.engineInfo().engine, operations }));

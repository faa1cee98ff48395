// Runs test/smoke/peer.mjs with the oldest version in each range of redis, ioredis and undici, which package.json lists
// as optional peers, and test/smoke/peer-cluster.mjs with those of redis and ioredis. The other tests use the newest versions.
//
//   npm run test:peers

import { join } from 'node:path';
import { findServer, StoreServer } from '../out/examples/fleet/server.js';
import { fetchPackages } from './fetch.mjs';
import { fetchRuntime, RUNTIMES } from './runtimes.mjs';
import { fail, require, root, run } from './tools.mjs';

const { peerDependencies } = require('../package.json');

const PEERS = ['redis', 'ioredis', 'undici'].flatMap((name) =>
  peerDependencies[name].split(' || ').map((range) => range.replace('^', `${name}@`)),
);

const program = findServer();
if (program === undefined) fail('peers: needs the Debian package redis-server');
const server = await StoreServer.start(program, []);
try {
  for (const peer of PEERS) test(peer);
} finally {
  await server.close();
}

function test(peer) {
  process.stdout.write(`peers: ${peer} ... `);
  const { folder, missing } = fetchPackages(`peer-${peer.replace('@', '-')}`, [peer]);
  const outcome = missing === undefined ? smoke(peer, folder) : { status: 1, output: missing };
  console.log(outcome.status === 0 ? 'passed' : `FAILED\n${outcome.output}`);
  if (outcome.status !== 0) process.exitCode = 1;
}

function smoke(peer, folder) {
  // undici 8 needs a newer Node than this package does.
  const how = peer.startsWith('undici@8')
    ? fetchRuntime(RUNTIMES.find(({ name }) => name === 'Node 24'))
    : { command: process.execPath, args: [] };
  if (how.missing !== undefined) return { status: 1, output: how.missing };
  const [name] = peer.split('@');
  const smokes = [['peer.mjs', server.url]];
  if (name !== 'undici') smokes.push(['peer-cluster.mjs']);
  for (const [file, ...rest] of smokes) {
    const script = join(root, 'test/smoke', file);
    const args = [...how.args, script, name, folder, ...rest];
    const outcome = run(how.command, args, { timeout: 120_000 });
    if (outcome.status !== 0) return outcome;
  }
  return { status: 0 };
}

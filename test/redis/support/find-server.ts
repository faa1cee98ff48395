// Runs before the tests with a real store. Without a server it installs one in CI, where tests would otherwise pass
// without having run; elsewhere it installs nothing and prints once that these tests are skipped.

import { spawnSync } from 'node:child_process';
import { findServer, INSTALL_ADVICE } from '../../../out/examples/fleet/server.js';

export default function setup(): void {
  if (findServer() !== undefined) return;
  if (process.env['CI'] || process.env['RELAY_LIMITER_INSTALL_TOOLS']) install();
  if (findServer() === undefined) {
    console.warn(`skipped: tests in test/redis that start a store; ${INSTALL_ADVICE}`);
  }
}

function install(): void {
  const wait = ['-qq', '-o', 'DPkg::Lock::Timeout=120'];
  const options = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
  const packages = ['--no-install-recommends', 'redis-server'];
  spawnSync('apt-get', ['update', ...wait], options);
  spawnSync('apt-get', ['install', '-y', ...wait, ...packages], options);
}

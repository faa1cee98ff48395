// The package in bundles for Node, away from where they were made: which engine runs, what is said of it, and the
// dashboard's page.

import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VERSION } from '../dist/common/version.js';
import { type BUNDLERS, bundled, type Format } from './support/bundles.js';
import { TESTS_NATIVE } from './support/limiters.js';
import { ROOT } from './support/processes.js';

const BINARY = join(ROOT, 'build/Release/relay_limiter.node');

/** Prints what runs by default, what insisting on the native engine gives, and what the dashboard answers. */
const SCRIPT = `
  import { engineInfo, RateLimiter } from 'relay-limiter';
  import { createDashboard } from 'relay-limiter/dashboard';

  function native() {
    try {
      return new RateLimiter({ engine: 'native' }).engine;
    } catch ({ code, message }) {
      return { code, message };
    }
  }

  async function pages(limiter) {
    const dashboard = createDashboard({ limiters: { limiter } });
    const url = await dashboard.listen();
    const page = await (await fetch(url)).text();
    const links = [...page.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, link]) => link);
    const answers = await Promise.all(links.map((link) => fetch(url + link)));
    dashboard.close();
    return { links, statuses: [...new Set(answers.map(({ status }) => status))] };
  }

  const limiter = new RateLimiter({ rateLimit: 1e-6, burstLimit: 1 });
  const verdicts = [1, 2].map(() => limiter.check('peer')[0]);
  pages(limiter).then(({ links, statuses }) => {
    console.log(JSON.stringify({ verdicts, info: engineInfo(), native: native(), links, statuses }));
  });
`;

function start(args: string[], input = '') {
  const env = { ...process.env, RELAY_LIMITER_ENGINE: '', NODE_OPTIONS: '' };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env,
    input,
    timeout: 240_000,
  });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return { report: JSON.parse(stdout), stderr };
}

/** What a bundle prints on the TypeScript engine, for a reason. */
function onTypeScript(reason: string) {
  return {
    stderr: '',
    report: {
      verdicts: ['allow', 'delay'],
      info: { engine: 'js', reason, version: VERSION },
      native: {
        code: 'ERR_LIMITER_ENGINE',
        message: `the engine option asks for native, but ${reason}`,
      },
      links: expect.arrayContaining(['main.js', 'page.css']),
      statuses: [200],
    },
  };
}

const REMEDY = 'leave the package out of the bundle (docs/platforms.md)';
const noBinaryIn = (folder: string) =>
  `relay-limiter was bundled without its native binary: copy its .node file to ${folder}, or ${REMEDY}`;

const CASES: [keyof typeof BUNDLERS, Format][] = [
  ['esbuild', 'cjs'],
  ['esbuild', 'esm'],
  ['webpack', 'cjs'],
  ['webpack', 'esm'],
  ['rollup', 'cjs'],
  ['rollup', 'esm'],
  ['vite', 'cjs'],
  ['vite', 'esm'],
];

describe.each(CASES)('A bundle by %s as %s', (bundler, format) => {
  test('takes TypeScript and says why, or the addon beside it, and serves the dashboard', async () => {
    const { folder, file, warnings } = await bundled(bundler, format, SCRIPT);
    expect(warnings).toEqual([]);
    expect(start([file])).toEqual(onTypeScript(noBinaryIn(folder)));
    if (!TESTS_NATIVE) return;
    const path = join(folder, 'relay-limiter.node');
    cpSync(BINARY, path);
    expect(start([file])).toMatchObject({
      stderr: '',
      report: { verdicts: ['allow', 'delay'], info: { engine: 'native', path }, native: 'native' },
    });
  });
});

describe('A bundle', () => {
  test('for Node without the condition "node" says that', async () => {
    const { file, warnings } = await bundled('rollupWithoutNodeCondition', 'esm', SCRIPT);
    expect(warnings).toEqual([]);
    const reason =
      'relay-limiter was bundled as for browsers, without its native binary: ' +
      `bundle it with the condition "node", or ${REMEDY}`;
    expect(start([file])).toEqual(onTypeScript(reason));
  });

  test('warns of an addon beside it that does not load, and takes TypeScript', async () => {
    const { folder, file } = await bundled('esbuild', 'cjs', SCRIPT);
    const path = join(folder, 'relay-limiter.node');
    writeFileSync(path, 'not a binary');
    const { report, stderr } = start([file]);
    expect(report).toMatchObject({ verdicts: ['allow', 'delay'], info: { engine: 'js', path } });
    expect(stderr).toContain(`${path} failed to load: `);
  });

  test('in a single executable finds the addon beside the program', async () => {
    const { folder, file } = await bundled('esbuild', 'cjs', SCRIPT);
    // As Node runs the script in such a program: with its own modules alone, and the program as the file.
    const names = ['exports', 'require', 'module', '__filename', '__dirname'];
    const program = join(folder, 'program');
    const script = `
      const { readFileSync } = require('node:fs');
      const { compileFunction } = require('node:vm');
      const { isBuiltin } = require('node:module');
      const builtins = (id) => {
        if (!isBuiltin(id)) throw new Error(id + ' is not built in');
        return require(id);
      };
      const code = readFileSync(${JSON.stringify(file)}, 'utf8');
      const run = compileFunction(code, ${JSON.stringify(names)});
      run({}, builtins, {}, ${JSON.stringify(program)}, ${JSON.stringify(folder)});
    `;
    expect(start(['--eval', script])).toEqual(onTypeScript(noBinaryIn(folder)));
    if (!TESTS_NATIVE) return;
    cpSync(BINARY, join(folder, 'relay_limiter.node'));
    expect(start(['--eval', script]).report).toMatchObject({ info: { engine: 'native' } });
  });

  test('that no file holds looks nowhere for an addon', async () => {
    const { file } = await bundled('esbuild', 'cjs', SCRIPT);
    const reason = `relay-limiter was bundled without its native binary: ${REMEDY}`;
    expect(start(['-'], readFileSync(file, 'utf8'))).toEqual(onTypeScript(reason));
  });
});

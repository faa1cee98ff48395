// An application with the package in its node_modules, and what bundlers make of it: one file, elsewhere.

import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeResolve } from '@rollup/plugin-node-resolve';
import * as esbuild from 'esbuild';
import { rollup } from 'rollup';
import { build as vite } from 'vite';
import { onTestFinished } from 'vitest';
import webpack from 'webpack';
import { ROOT } from './processes.js';

export type Format = 'cjs' | 'esm';

interface Task {
  /** The application's script. */
  readonly entry: string;
  /** Where its bundle goes. */
  readonly folder: string;
  readonly format: Format;
}

/** Each puts everything but Node's own modules into one file, and resolves with the words of its warnings. */
export const BUNDLERS = {
  async esbuild({ entry, folder, format }: Task): Promise<string[]> {
    const { warnings } = await esbuild.build({
      entryPoints: [entry],
      bundle: true,
      platform: 'node',
      format,
      outfile: join(folder, fileOf(format)),
      logLevel: 'silent',
    });
    return warnings.map(({ text }) => text);
  },

  async webpack({ entry, folder, format }: Task): Promise<string[]> {
    const compiler = webpack({
      mode: 'production',
      target: 'node20',
      entry,
      output: { path: folder, filename: fileOf(format), module: format === 'esm' },
      experiments: { outputModule: format === 'esm' },
      // As in production, which takes most of the time: the code is the same in the other format.
      optimization: { minimize: format === 'cjs' },
    });
    const stats = await new Promise<webpack.Stats | undefined>((resolve, reject) => {
      compiler?.run((error, stats) => (error ? reject(error) : resolve(stats)));
    });
    await new Promise((resolve) => compiler?.close(resolve));
    const { warnings = [], errors = [] } = stats?.toJson() ?? {};
    return [...warnings, ...errors].map(({ message }) => message);
  },

  rollup: (task: Task) => bundleWithRollup(task, ['node']),

  /** The plugin's default. */
  rollupWithoutNodeCondition: (task: Task) => bundleWithRollup(task, []),

  async vite({ entry, folder, format }: Task): Promise<string[]> {
    const warnings: string[] = [];
    await vite({
      configFile: false,
      root: folder,
      logLevel: 'silent',
      ssr: { noExternal: true },
      build: {
        ssr: entry,
        outDir: folder,
        emptyOutDir: false,
        rollupOptions: {
          output: { format, entryFileNames: fileOf(format), codeSplitting: false },
          onwarn: ({ message }) => warnings.push(message),
        },
      },
    });
    return warnings;
  },
};

async function bundleWithRollup({ entry, folder, format }: Task, exportConditions: string[]) {
  const warnings: string[] = [];
  const bundle = await rollup({
    input: entry,
    plugins: [nodeResolve({ preferBuiltins: true, exportConditions })],
    onwarn: ({ message }) => warnings.push(message),
  });
  await bundle.write({ format, file: join(folder, fileOf(format)) });
  await bundle.close();
  return warnings;
}

function fileOf(format: Format): string {
  return format === 'esm' ? 'app.mjs' : 'app.cjs';
}

/**
 * Bundles the application `script`, and moves its sources away, as on another machine. Where the bundle is, the
 * application has an addon of its own, in the place where the package has its own, and node-gyp-build, which finds it.
 */
export async function bundled(name: keyof typeof BUNDLERS, format: Format, script: string) {
  const base = realpathSync(mkdtempSync(join(tmpdir(), 'relay-limiter-bundle-')));
  onTestFinished(() => rmSync(base, { recursive: true, force: true }));
  const source = join(base, 'source');
  const filter = (path: string) => !/\.(map|d\.ts)$/.test(path);
  for (const part of ['dist', 'package.json']) {
    const copy = join(source, 'node_modules/relay-limiter', part);
    cpSync(join(ROOT, part), copy, { recursive: true, filter });
  }
  const entry = join(source, 'app.js');
  writeFileSync(entry, script);
  const place = join(base, 'place');
  const folder = join(place, 'dist/server');
  for (const path of [folder, join(place, 'build/Release'), join(place, 'node_modules')]) {
    mkdirSync(path, { recursive: true });
  }
  writeFileSync(join(place, 'package.json'), '{ "name": "app" }');
  writeFileSync(join(place, 'build/Release/app.node'), 'an addon of the application');
  const finder = 'node_modules/node-gyp-build';
  symlinkSync(join(ROOT, finder), join(place, finder), 'junction');
  const warnings = await BUNDLERS[name]({ entry, folder, format });
  rmSync(source, { recursive: true });
  return { folder, file: join(folder, fileOf(format)), warnings };
}

// Builds dist/ (the package), out/ (examples, playground, benchmark and soak) and the native addon.
//
//   node scripts/build.mjs              builds everything; fails if any part fails
//   node scripts/build.mjs --tolerant   builds what has changed since the last build; if the addon cannot be built,
//                                       prints one line, and the TypeScript engine runs
//   node scripts/build.mjs --bench      builds only the addons that the benchmark compares with
//
// build/addon.log keeps the compiler's output.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename } from 'node:path';
import {
  areSourcesBuilt,
  beginAddon,
  beginSources,
  isAddonBuilt,
  isAddonSettled,
  missingTools,
} from './built.mjs';
import { lockBuild } from './lock.mjs';
import { fail, node, nodeWithHeaders, require, root } from './tools.mjs';

const LOG = 'build/addon.log';
const OUTPUTS = { lib: 'dist', examples: 'out/examples', bench: 'out/bench', soak: 'out/soak' };

function compileTypeScript(project) {
  const { status, output } = node('typescript', 'tsc', ['-p', project]);
  if (status !== 0) fail(output);
}

/**
 * Writes the dashboard's page as a module of strings, so that a bundle of the dashboard contains the page. The browser
 * script includes uPlot; the other files are unchanged. uPlot's licence is in the script and in a file of its own.
 */
async function buildPage() {
  const page = `${root}lib/dashboard/page`;
  const uplot = `${root}node_modules/uplot`;
  const read = (path) => readFileSync(path, 'utf8');
  compileTypeScript('lib/dashboard/page');
  const { build } = await import('esbuild');
  const license = read(`${uplot}/LICENSE`);
  const { outputFiles } = await build({
    entryPoints: [`${page}/main.ts`, `${page}/worker.ts`],
    outdir: page,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  const scripts = Object.fromEntries(outputFiles.map(({ path, text }) => [basename(path), text]));
  const names = readdirSync(page).filter((name) => /\.(html|css|svg)$/.test(name));
  const files = {
    ...scripts,
    'main.js': `/*! With uPlot:\n\n${license}*/\n${scripts['main.js']}`,
    'uplot.css': `/*! uPlot:\n\n${license}*/\n${read(`${uplot}/dist/uPlot.min.css`)}`,
    ...Object.fromEntries(names.map((name) => [name, read(`${page}/${name}`)])),
  };
  const entries = Object.entries(files).map(([name, text]) =>
    [name, text].map((value) => JSON.stringify(value)).join(': '),
  );
  const module = `export const PAGE_FILES = {\n  ${entries.join(',\n  ')},\n};\n`;
  writeFileSync(`${root}dist/dashboard/page-files.js`, module);
  copyFileSync(`${uplot}/LICENSE`, `${root}dist/dashboard/uplot.LICENSE`);
}

/** Writes the playground as one file that needs no server: the script includes the package's TypeScript engine. */
async function buildPlayground() {
  compileTypeScript('playground');
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    entryPoints: [`${root}playground/main.ts`],
    bundle: true,
    minify: true,
    platform: 'browser',
    format: 'esm',
    target: 'es2022',
    write: false,
  });
  const read = (name) => readFileSync(`${root}playground/${name}`, 'utf8');
  // In a script the HTML parser looks for the end tag only.
  const script = outputFiles[0].text.replaceAll('</script', '<\\/script');
  const page = read('index.html')
    .replace('/* STYLE */', () => read('page.css'))
    .replace('/* SCRIPT */', () => script);
  mkdirSync(`${root}out/playground`, { recursive: true });
  writeFileSync(`${root}out/playground/index.html`, page);
}

/** Compiles the addon in `folder` and writes the log. Returns false if the compilation fails. */
function compileAddon(folder) {
  // If build/ exists, make compiles only what has changed.
  const steps = existsSync(`${root}${folder}/build/Makefile`)
    ? ['configure', 'build']
    : ['rebuild'];
  const headers = nodeWithHeaders();
  const nodedir = headers === undefined ? [] : [`--nodedir=${headers}`];
  const args = [...steps, '--release', '-C', folder, ...nodedir];
  const { status, output } = node('node-gyp', 'node-gyp', args);
  mkdirSync(`${root}build`, { recursive: true });
  writeFileSync(`${root}${LOG}`, output);
  // Otherwise an older binary would be loaded in place of the failed build.
  if (status !== 0) rmSync(`${root}${folder}/build/Release`, { recursive: true, force: true });
  return status === 0;
}

async function buildPackage(tolerant) {
  if (!isInstalled('typescript')) {
    const reason = 'nothing built: the development packages are not installed';
    if (!tolerant) fail(`relay-limiter: ${reason}; npm ci installs them, and so does npm test`);
    console.log(`relay-limiter: ${reason}`);
    return;
  }
  if (!tolerant || !areSourcesBuilt()) {
    const record = beginSources();
    for (const project of ['lib', 'examples', 'bench', 'soak']) {
      rmSync(`${root}${OUTPUTS[project]}`, { recursive: true, force: true });
      compileTypeScript(project);
      if (project === 'lib') await buildPage();
    }
    await buildPlayground();
    record();
  }
  if (!tolerant || !isAddonSettled()) {
    const record = beginAddon();
    if (compileAddon('.')) record();
  }
  if (isAddonBuilt()) {
    console.log('relay-limiter: built, with the native addon');
  } else if (tolerant) {
    const missing = missingTools();
    const reason = missing.length > 0 ? `needs ${missing.join(', ')}` : `see ${LOG}`;
    console.log(
      `relay-limiter: built without the native addon (${reason}); the TypeScript engine runs`,
    );
  } else {
    fail(readFileSync(`${root}${LOG}`, 'utf8'));
  }
}

function buildForBenchmark() {
  if (!compileAddon('bench/floor')) {
    fail(
      `${readFileSync(`${root}${LOG}`, 'utf8')}\nrelay-limiter: the benchmark needs a C++ compiler\n`,
    );
  }
  // Its prebuilt binary needs a newer libc than some systems have. If this build fails too, the benchmark leaves the
  // package out and says so.
  if (!canLoad('@hyperlimit/core')) compileAddon('node_modules/@hyperlimit/core');
}

function canLoad(name) {
  try {
    return Boolean(require(name));
  } catch {
    return false;
  }
}

function isInstalled(name) {
  return existsSync(`${root}node_modules/${name}/package.json`);
}

await lockBuild();
if (process.argv.includes('--bench')) {
  buildForBenchmark();
} else {
  await buildPackage(process.argv.includes('--tolerant'));
}

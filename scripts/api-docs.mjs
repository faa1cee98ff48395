// Writes the API reference to docs/api/, as HTML pages, from the doc comments of everything that package.json exports.
// Fails if an exported class, function, type, constant, method or accessor has no comment, if a link in a comment leads
// nowhere, or if a public type is not exported; prints each of them.
//
//   npm run docs:api
//
// TypeDoc does not accept the project's version of TypeScript, so it is installed in a folder of its own, with another.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { fetchPackages } from './fetch.mjs';
import { fail, require, root } from './tools.mjs';

const PACKAGES = ['typedoc@0.28.20', 'typescript@6.0.3'];
const FOLDER = join(root, 'docs/api');

const { name, version, exports } = require('../package.json');
const entries = Object.keys(exports).filter((entry) => entry !== './package.json');

const { folder, missing } = fetchPackages('typedoc', PACKAGES);
if (missing !== undefined) fail(`API reference: ${missing}`);
const { Application, Converter } = await import(
  pathToFileURL(join(folder, 'node_modules/typedoc/dist/index.js')).href
);

const app = await Application.bootstrap({
  name: `${name} ${version}`,
  tsconfig: join(root, 'lib/tsconfig.json'),
  basePath: root,
  entryPoints: entries.map((entry) => join(root, 'lib', entry, 'index.ts')),
  readme: 'none',
  disableGit: true,
  sourceLinkTemplate: `https://github.com/relay-limiter/relay-limiter/blob/v${version}/{path}#L{line}`,
  excludeInternal: true,
  excludePrivate: true,
  excludeExternals: true,
  validation: { notExported: true, invalidLink: true, notDocumented: true },
  // Not Property: the names and types of many data fields say all there is to say.
  requiredToBeDocumented: [
    ...['Class', 'Interface', 'TypeAlias', 'Enum', 'EnumMember'],
    ...['Function', 'Variable', 'Method', 'Accessor'],
  ],
  // The function of undici that limitInterceptor wraps.
  intentionallyNotDocumented: [`${name}/client.limitInterceptor.__type.D`],
});
// A module has the name by which users import it.
app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
  for (const module of project.children) module.name = module.name.replace(/^lib/, name);
});

const project = await app.convert();
if (project === undefined) fail('API reference: the sources do not compile');
app.validate(project);
const { errorCount, warningCount } = app.logger;
if (errorCount + warningCount > 0) fail(`API reference: ${errorCount + warningCount} problems`);
await app.generateDocs(project, FOLDER);
console.log(`docs/api/index.html: ${project.children.length} entries`);

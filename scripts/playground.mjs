// Serves the playground, one static page, on this machine until it is interrupted.
//
//   npm run playground [-- --port 9467]

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { fail, root } from './tools.mjs';

const FILE = `${root}out/playground/index.html`;
const { values } = parseArgs({ options: { port: { type: 'string', default: '9467' } } });
if (!/^\d{1,5}$/.test(values.port)) fail(`playground: --port must be a number, got ${values.port}`);

const page = readFileSync(FILE);
const server = createServer((_, response) => {
  response.setHeader('content-type', 'text/html; charset=utf-8').end(page);
});
server.on('error', (error) => {
  // Any free port does as well as the one that is in use.
  if (error.code === 'EADDRINUSE') server.listen(0, '127.0.0.1');
  else fail(`playground: ${error.message}`);
});
server.on('listening', () => {
  console.log(`open http://127.0.0.1:${server.address().port}/`);
  console.log(`or the file ${pathToFileURL(FILE)}`);
  console.log('Ctrl-C ends it');
});
server.listen(Number(values.port), '127.0.0.1');
process.once('SIGINT', () => process.exit(130));

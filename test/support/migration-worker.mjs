// `serve` of the programs in docs/migration-servers.md: a worker checks one peer eight times and ends. The primary prints how
// many checks of how many workers were allowed.

import cluster from 'node:cluster';

const CHECKS = 8;

if (cluster.isPrimary) {
  const allowed = [];
  cluster.on('message', (_worker, message) => {
    if (typeof message.allowed === 'number') allowed.push(message.allowed);
  });
  process.on('exit', () => {
    const sum = allowed.reduce((total, count) => total + count, 0);
    console.log(JSON.stringify({ workers: allowed.length, allowed: sum }));
  });
}

export async function serve(isAllowed) {
  let allowed = 0;
  for (let n = 0; n < CHECKS; n += 1) allowed += Number(await isAllowed('peer'));
  process.send({ allowed }, () => process.exit());
}

// A node in a process of its own, under a flood. It reports how much it admits and between which times, in seconds of
// the machine's clock.

import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { SharedRateLimiter } from 'relay-limiter/redis';

const { url, which, pace, offset, ...options } = JSON.parse(process.argv[2]);
const seconds = () => {
  const [whole, nano] = process.hrtime();
  return whole + nano / 1e9;
};
const client = which === 'ioredis' ? new Redis(url) : createClient({ url });
client.on('error', () => {});
if (which !== 'ioredis') await client.connect();
const clock = () => seconds() * pace + offset;
const limiter = new SharedRateLimiter({ client, clock, ...options });
process.on('disconnect', () => process.exit());
process.send({ ready: true });
await new Promise((resolve) => process.once('message', resolve));
for (;;) {
  const from = seconds();
  const verdicts = Array.from({ length: 20 }, () => limiter.checkAsync('flood'));
  const admitted = (await Promise.all(verdicts)).filter(([action]) => action === 'allow').length;
  process.send({ from, at: seconds(), admitted });
  await new Promise((resolve) => setTimeout(resolve, 5));
}

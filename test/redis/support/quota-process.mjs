// A process that takes what its SharedPolicyLimiter allows: by tryAcquire, and then it reports between which times of the
// machine's clock; or by requests to a server, with limitFetch or with the interceptor of undici.

import { createClient } from 'redis';
import { limitFetch, limitInterceptor } from 'relay-limiter/client';
import { SharedPolicyLimiter } from 'relay-limiter/redis';
import { Agent, request } from 'undici';

const { url, server, by, ...options } = JSON.parse(process.argv[2]);
const client = createClient({ url });
client.on('error', () => {});
await client.connect();
const limiter = new SharedPolicyLimiter({ client, ...options });
process.on('disconnect', () => process.exit());
const limitedFetch = limitFetch(fetch, limiter, { maxAttempts: 1 });
const dispatcher = new Agent().compose(limitInterceptor(limiter));
const send = async () => {
  if (by === 'fetch') return (await limitedFetch(server)).status;
  const { statusCode, body } = await request(server, { dispatcher });
  await body.dump();
  return statusCode;
};
const seconds = () => {
  const [whole, nano] = process.hrtime();
  return whole + nano / 1e9;
};
const keepTaking = () => {
  for (;;) {
    const after = seconds();
    if (!limiter.tryAcquire()) break;
    // The system may have stopped the process meanwhile.
    process.send({ take: { after, before: seconds() } });
  }
  setTimeout(keepTaking, 1);
};
const keepSending = async () => {
  for (;;) process.send({ status: await send() });
};
process.send({ ready: true });
await new Promise((resolve) => process.once('message', resolve));
if (by === 'tryAcquire') keepTaking();
else for (let index = 0; index < 5; index += 1) void keepSending();

// A process that sends requests to a server as fast as its SharedPolicyLimiter allows, by limitFetch or by the interceptor of
// undici. It reports each response.

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
const keepSending = async () => {
  for (;;) {
    const status = await send();
    process.send({ status });
  }
};
process.send({ ready: true });
await new Promise((resolve) => process.once('message', resolve));
for (let index = 0; index < 5; index += 1) void keepSending();

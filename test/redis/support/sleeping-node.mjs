// A node in a process whose clocks the test sets. It says how many tokens it has on lease before and after a message.

import { createClient } from 'redis';
import { SharedRateLimiter } from 'relay-limiter/redis';

const { url, engine } = JSON.parse(process.argv[2]);
const client = createClient({ url });
await client.on('error', () => {}).connect();
const limit = { rateLimit: 1, burstLimit: 100, leaseSeconds: 1000, deadlineSeconds: 100 };
const limiter = new SharedRateLimiter({ client, engine, onStoreFailure: 'closed', ...limit });
// The second check of a peer takes a lease.
await limiter.checkAsync('peer');
await limiter.checkAsync('peer');
process.on('disconnect', () => process.exit());
process.on('message', () => process.send(limiter.getStats().leasedTokens));
process.send(limiter.getStats().leasedTokens);

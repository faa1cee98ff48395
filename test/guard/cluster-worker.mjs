// A worker of a cluster that makes a limit, and sends the codes of its warnings.

import { rateLimit } from 'relay-limiter/http';

process.on('warning', ({ code }) => process.send(code, () => process.exit()));
rateLimit({ limit: 1 });

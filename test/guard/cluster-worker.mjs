// A worker of a cluster. It creates a limit and sends the codes of its warnings to the primary process.

import { rateLimit } from 'relay-limiter/http';

process.on('warning', ({ code }) => process.send(code, () => process.exit()));
rateLimit({ limit: 1 });

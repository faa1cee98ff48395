// Holds the dashboard's port while the relay runs without limits, so that the page's address is known from the start. Its page
// reloads itself until the dashboard is there.

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="1">
<link rel="icon" href="data:,">
<title>A relay under attack</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 36em; margin: 15vh auto; padding: 0 1em">
<h1 style="font-size: 1.3em">First without limits</h1>
<p>The relay is under attack, and nothing guards it yet. The dashboard opens here as soon as the guard is on.</p>
</body>
</html>
`;

export interface WaitingPage {
  readonly url: string;
  readonly port: number;
  /** Frees the port. */
  close(): Promise<void>;
}

/** Serves the page on `port`, or on a free port if that one is in use. */
export async function serveWaitingPage(port: number): Promise<WaitingPage> {
  const server = createServer((_, response) => {
    response.writeHead(200, {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      Connection: 'close',
    });
    response.end(PAGE);
  });
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  await listen(port).catch(() => listen(0));
  // It must not keep the demonstration alive.
  server.unref();
  const taken = (server.address() as AddressInfo).port;
  return {
    url: `http://127.0.0.1:${taken}/`,
    port: taken,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

// Real servers on the loopback interface, for the tests of the client.

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { afterEach, onTestFinished } from 'vitest';

export interface Received {
  method: string;
  url: string;
  body: string;
  headers: IncomingMessage['headers'];
}

/** Answers a request. `at` is the number of requests before it. */
export type Answer = (response: ServerResponse, request: Received, at: number) => void;

export interface TestServer {
  /** Such as `http://127.0.0.1:1234`. */
  readonly origin: string;
  readonly received: Received[];
  /** Returns the number of open connections. */
  connections(): Promise<number>;
  close(): Promise<void>;
}

const open = new Set<TestServer>();
afterEach(async () => {
  for (const server of open) await server.close();
});

/** Starts a server that listens until the end of the test. */
export async function serve(answer: Answer): Promise<TestServer> {
  const received: Received[] = [];
  const http = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const { method = '', url = '', headers } = request;
    received.push({ method, url, body, headers });
    answer(response, received[received.length - 1] as Received, received.length - 1);
  });
  // Otherwise a request could use a connection that the server is just closing, seconds after the last one.
  http.keepAliveTimeout = 0;
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const server: TestServer = {
    origin: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    received,
    connections: () => new Promise((resolve) => http.getConnections((_, count) => resolve(count))),
    close: () => {
      open.delete(server);
      http.closeAllConnections();
      return new Promise((resolve) => http.close(() => resolve()));
    },
  };
  open.add(server);
  return server;
}

/**
 * Returns a server that refuses connections until the end of the test. Its port is that of an open connection, so no other
 * process can listen there: it could at the port of a server that has been closed.
 */
export async function goneServer(): Promise<Pick<TestServer, 'origin'>> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const connection = connect((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => {
    connection.destroy();
    server.close();
  });
  await once(connection, 'connect');
  return { origin: `http://127.0.0.1:${connection.localPort}` };
}

/** Refuses the first `times` requests with that status and those fields, then answers `yes`. */
export function refusing(times: number, status: number, fields: Record<string, string>): Answer {
  return (response, _, at) => {
    if (at < times) response.writeHead(status, fields).end('no');
    else response.end('yes');
  };
}

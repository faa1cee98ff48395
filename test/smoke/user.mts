// A user's program, with every entry of the package: scripts/test-types.mjs compiles it, nothing runs it.

import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Server as TcpServer } from 'node:net';
import type { FastifyInstance } from 'fastify';
import * as prometheus from 'prom-client';
import {
  type Ban,
  type CheckResult,
  DirectConnectionRateLimiter,
  engineInfo,
  type LimiterSnapshot,
  OrderbookRateLimiter,
  type Peer,
  type PeerGroup,
  RateLimitAction,
  RateLimiter,
  TokenBucket,
} from 'relay-limiter';
import { addressKey } from 'relay-limiter/address';
import { limitFetch, PolicyLimiter, UpstreamPool } from 'relay-limiter/client';
import { createDashboard } from 'relay-limiter/dashboard';
import rateLimitPlugin from 'relay-limiter/fastify';
import { rateLimit as rateLimitOfFetch } from 'relay-limiter/fetch';
import { formatRateLimitHeaders, parseRateLimitHeaders } from 'relay-limiter/headers';
import { rateLimit } from 'relay-limiter/http';
import { collectMetrics } from 'relay-limiter/metrics';
import { guardLineServer } from 'relay-limiter/net';
import { keepSnapshot, loadSnapshot } from 'relay-limiter/persist';
import { SharedBans, SharedRateLimiter } from 'relay-limiter/redis';
import { type Admission, guardWebSockets } from 'relay-limiter/websocket';
import { guardWebSocketServer } from 'relay-limiter/ws';
import type { WebSocketServer } from 'ws';

const limiter = new RateLimiter({
  rateLimit: 50,
  burstLimit: 100,
  onBan: ({ key, violations }: Ban) => console.log(key, violations),
});
const requests = new OrderbookRateLimiter({ violationBanThreshold: 10 });
const direct = new DirectConnectionRateLimiter();
const [action, seconds]: CheckResult = limiter.check('peer');
const peer: Peer = limiter.open('peer');
const room: PeerGroup = limiter.group([peer, 'another']);
const verdicts: Uint8Array = room.check(1, new Uint8Array(room.size));
const snapshot: LimiterSnapshot = requests.snapshot();
console.log(action === RateLimitAction.ALLOW, seconds, verdicts, snapshot, engineInfo().engine);
console.log(new TokenBucket(1, 1).consume(), direct.checkMessage('connection'), direct.getBans());

const policies = [{ quota: 240, windowSeconds: 60 }];
const politeFetch: typeof fetch = limitFetch(fetch, new PolicyLimiter({ policies }));
const pool = new UpstreamPool({ 'one.example': { policies: [{ w: 60, v: 240 }] } });
const response = await politeFetch('https://one.example/');
console.log(parseRateLimitHeaders(response.headers).retryAfterSeconds, pool);
console.log(formatRateLimitHeaders({ policies: [{ name: 'burst', quota: 100 }] }));

const middleware = rateLimit({
  limit: 100,
  key: (request) => addressKey(request.socket.remoteAddress),
});
export const handle = (request: IncomingMessage, reply: ServerResponse): void => {
  middleware(request, reply, (error?: Error) => reply.end(error?.message));
};
const limitFetched = rateLimitOfFetch({ limit: 100, refundWhen: (_, { status }) => status < 400 });
const limitByUser = rateLimitOfFetch<{ user: string }>({ limit: 5, key: (_, { user }) => user });
export const answer = (request: Request, address: string): Promise<Response> =>
  limitFetched(request, () => limitByUser(request, () => new Response('ok'), { user: 'ann' }), {
    address,
  });
interface BunLikeSocket {
  readonly data: { admission: Admission; user: string };
  send(data: string): number;
  close(code?: number, reason?: string): void;
  terminate(): void;
}
const sockets = guardWebSockets({ messages: { limiter }, onDelay: 'close' });
export const websocket = sockets.handlers<BunLikeSocket, { idleTimeout: number }>({
  idleTimeout: 60,
  open: (socket) => void socket.send(socket.data.user),
  message: async (socket, data: string | Buffer) => void socket.send(String(data)),
});
const shared = new SharedRateLimiter({ mode: 'local' });
shared.on('state', ({ state }) => console.log(state));
collectMetrics({ client: prometheus, limiters: { messages: limiter }, shared: { fleet: shared } });
await loadSnapshot(requests, 'bans.json');
keepSnapshot(requests, 'bans.json', { everySeconds: 60 });
createDashboard({ limiters: { messages: limiter } });

export async function guard(server: WebSocketServer, tcp: TcpServer, http: Server): Promise<void> {
  guardWebSocketServer(server, { messages: { limiter }, onDelay: 'pause' });
  guardLineServer(tcp, { messages: { limiter }, onDelay: 'drop' });
  http.on('request', handle);
}

export async function start(app: FastifyInstance, client: object): Promise<void> {
  await app.register(rateLimitPlugin, { limit: 100, windowSeconds: 60 });
  new SharedBans({ client }).share(requests);
}

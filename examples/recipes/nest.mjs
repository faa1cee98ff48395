// A guard for NestJS: HTTP requests and the messages of gateways by the rules of one RuleLimiter.

import { HttpException } from '@nestjs/common';
import { connectionKey } from 'relay-limiter/address';
import { rateLimit, refusalError } from 'relay-limiter/http';

/**
 * For `app.useGlobalGuards` and `@UseGuards`. Requests are checked with the action `message`, as everywhere; a message of a
 * gateway with its event as the action. Guard the server of the gateway too: `guardWebSocketServer` of relay-limiter/ws
 * limits connections, and what is no event.
 */
export class RateLimitGuard {
  #limiter;
  #limit;
  #connections = new WeakSet();

  constructor(limiter) {
    this.#limiter = limiter;
    // Nest's exception filter answers; the rate limit fields and Retry-After are set already.
    const handler = (_request, _response, next, refusal) =>
      next(new HttpException(refusalError(refusal).message, refusal.statusCode));
    this.#limit = rateLimit({ limiter, handler });
  }

  canActivate(context) {
    return context.getType() === 'ws' ? this.#message(context) : this.#request(context);
  }

  #request(context) {
    const http = context.switchToHttp();
    return new Promise((resolve, reject) => {
      this.#limit(http.getRequest(), http.getResponse(), (error) =>
        error === undefined ? resolve(true) : reject(error),
      );
    });
  }

  /** A refused message gets Nest's exception "Forbidden resource". */
  #message(context) {
    const ws = context.switchToWs();
    const client = ws.getClient();
    const connection = connectionKey(client);
    if (!this.#connections.has(client)) {
      this.#connections.add(client);
      client.once('close', () => this.#limiter.removePeer({ connection }));
    }
    const { outcome } = this.#limiter.check({ connection }, 1, ws.getPattern());
    if (outcome === 'banned' || outcome === 'denied') client.close(1008);
    return outcome === 'allow';
  }
}

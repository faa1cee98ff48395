// NestJS on Node: a controller, and a gateway on the same server. Prints its port.

import 'reflect-metadata';
import { Controller, Get, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WsAdapter } from '@nestjs/platform-ws';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { RuleLimiter } from 'relay-limiter';
import { RateLimitGuard } from './nest-recipe.mjs';

const limiter = new RuleLimiter({
  scopes: { connection: {}, address: { kind: 'address' } },
  rules: {
    requests: { scope: 'address', action: 'message', quota: 5, windowSeconds: 3600 },
    chat: { scope: 'connection', action: 'chat', quota: 2, windowSeconds: 3600 },
  },
  bans: { connection: { violations: 1, withinSeconds: 3600, seconds: 60 } },
});
const guard = new RateLimitGuard(limiter);

class Hello {
  get() {
    return 'Hello';
  }
  throws() {
    throw new Error('broken');
  }
}
class Chat {
  chat(_client, text) {
    return { event: 'chat', data: text };
  }
}
class App {}

/** Applies decorators without their syntax. */
function decorate(target, decorator, method) {
  if (method === undefined) return decorator(target);
  const { prototype } = target;
  decorator(prototype, method, Object.getOwnPropertyDescriptor(prototype, method));
}
decorate(Hello, Get('/'), 'get');
decorate(Hello, Get('/throws'), 'throws');
decorate(Hello, Controller());
decorate(Chat, SubscribeMessage('chat'), 'chat');
decorate(Chat, WebSocketGateway());
decorate(App, Module({ controllers: [Hello], providers: [Chat] }));

const app = await NestFactory.create(App, { logger: false });
app.useWebSocketAdapter(new WsAdapter(app));
app.useGlobalGuards(guard);
await app.listen(0, '127.0.0.1');
console.log(app.getHttpServer().address().port);

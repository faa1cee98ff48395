// The type of the user's client in options. client.ts recognizes a client by its methods.

/** A client of node-redis or ioredis, as the user created it. */
export type RedisClient = object;

// A subscription to a channel of the store.

/** A connection for one subscription. It belongs to this package. */
export interface Subscriber {
  /**
   * Connects and subscribes to a channel. Calls `onReady` after each subscription: messages that were published before it may
   * have been missed. If a connection is lost, the subscription is made again by itself, or `onEnd` is called.
   */
  subscribe(
    channel: string,
    onMessage: (message: string) => void,
    onReady: () => void,
    onEnd: (reason: unknown) => void,
  ): Promise<void>;
  /** Ends the connection, whether it is open, being opened or closed. */
  close(): void;
}

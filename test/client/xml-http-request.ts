// The part of XMLHttpRequest that whatwg-fetch uses, over the HTTP client of Node. React Native's fetch is whatwg-fetch.

import { type ClientRequest, type IncomingHttpHeaders, request } from 'node:http';

const DONE = 4;

export class XmlHttpRequest {
  readyState = 0;
  status = 0;
  statusText = '';
  responseURL = '';
  responseType = '';
  response: ArrayBuffer | undefined;
  onload?: () => void;
  onerror?: () => void;
  onabort?: () => void;
  onreadystatechange?: () => void;
  #request: ClientRequest | undefined;
  #responseHeaders: IncomingHttpHeaders = {};

  open(method: string, url: string): void {
    this.responseURL = url;
    this.#request = request(url, { method, agent: false });
  }

  setRequestHeader(name: string, value: string): void {
    this.#request?.setHeader(name, value);
  }

  send(body: string | Uint8Array | null): void {
    this.#request?.on('error', () => this.#end('onerror'));
    this.#request?.on('response', async (message) => {
      const { statusCode = 0, statusMessage = '', headers } = message;
      const chunks: Buffer[] = [];
      for await (const chunk of message) chunks.push(chunk);
      Object.assign(this, { status: statusCode, statusText: statusMessage });
      this.#responseHeaders = headers;
      this.response = new Uint8Array(Buffer.concat(chunks)).buffer;
      this.#end('onload');
    });
    this.#request?.end(body ?? undefined);
  }

  abort(): void {
    this.#end('onabort');
    this.#request?.destroy();
  }

  getAllResponseHeaders(): string {
    return Object.entries(this.#responseHeaders)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join('');
  }

  #end(event: 'onload' | 'onerror' | 'onabort'): void {
    if (this.readyState === DONE) return;
    this.readyState = DONE;
    this.onreadystatechange?.();
    this[event]?.();
  }
}

// Serves the files of the page, which the build has embedded in page-files.js, with security headers. They contain no
// secrets.

import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { extname } from 'node:path';
import { PAGE_FILES } from './page-files.js';

interface File {
  readonly body: Buffer;
  readonly type: string;
  readonly etag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Sent with every response: the page loads nothing from other origins, and no other page can embed it. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

let files: ReadonlyMap<string, File> | undefined;

/** Returns a file of the page by its name. */
export function pageFile(name: string): File | undefined {
  files ??= new Map(Object.entries(PAGE_FILES).map(([name, text]) => [name, file(name, text)]));
  return files.get(name);
}

/** Responds with the file, or with 304 if the client has it already. */
export function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  { body, type, etag }: File,
): void {
  const headers: Record<string, string | number> = {
    ...SECURITY_HEADERS,
    'Cache-Control': 'no-cache',
    ETag: etag,
    ...(status === 401 && { 'WWW-Authenticate': 'Bearer' }),
  };
  if (status === 200 && request.headers['if-none-match'] === etag) {
    response.writeHead(304, headers).end();
    return;
  }
  response.writeHead(status, { ...headers, 'Content-Type': type, 'Content-Length': body.length });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function file(name: string, text: string): File {
  const body = Buffer.from(text);
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 16)}"`;
  return { body, type: TYPES[extname(name)] ?? 'text/plain; charset=utf-8', etag };
}

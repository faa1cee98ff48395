// What the page is made of: the files that the build has put into page-files.js, served with the headers
// that keep the page to itself. Nothing of it is secret.

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

/** Sent with every answer: the page takes nothing from elsewhere, and nobody else's page shows it. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

let files: ReadonlyMap<string, File> | undefined;

/** A file of the page, by its name. */
export function pageFile(name: string): File | undefined {
  files ??= new Map(Object.entries(PAGE_FILES).map(([name, text]) => [name, file(name, text)]));
  return files.get(name);
}

/** Answers with a file, or that it has not changed. */
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

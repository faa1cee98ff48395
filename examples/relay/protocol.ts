// The protocol between peers and the relay: one JSON object per text frame. This file only checks that a message is well
// formed; the guard decides whether it is allowed.

import type { RawData } from 'ws';

export type ClientMessage =
  /** The first message of every connection; sets the nick. */
  | { type: 'hello'; nick: string }
  /** Changes the nick. */
  | { type: 'nick'; nick: string }
  /** To all other peers. The text `!orderbook` instead requests the relay's order book. */
  | { type: 'public'; text: string }
  /** To one peer. */
  | { type: 'private'; to: string; text: string };

export type RelayMessage =
  /** The answer to `hello`, with the key that order books are signed with (PEM). */
  | { type: 'welcome'; nick: string; publicKey: string }
  | { type: 'nick'; nick: string }
  | { type: 'public'; from: string; text: string }
  | { type: 'private'; from: string; text: string }
  /** `book` is JSON text, exactly as it was signed; the signature is base64. */
  | { type: 'orderbook'; book: string; signature: string }
  /** The message was not understood, or could not be delivered. */
  | { type: 'error'; reason: string }
  /** The message was dropped by a limit. */
  | { type: 'notice'; text: string };

export const ORDERBOOK_REQUEST = '!orderbook';

/** Bytes of the largest message. */
export const MAX_MESSAGE = 4096;

/** A message that the relay does not accept; `message` is the reason sent to the peer. */
export class Malformed extends Error {}

/** Reads one frame. @throws Malformed */
export function parse(data: RawData, isBinary: boolean): ClientMessage {
  if (isBinary) throw new Malformed('binary frames are not accepted, send JSON text');
  const text = data.toString();
  if (text.length > MAX_MESSAGE) throw new Malformed(`longer than ${MAX_MESSAGE} characters`);
  const fields = parseObject(text);
  switch (fields['type']) {
    case 'hello':
    case 'nick':
      return { type: fields['type'], nick: nickField(fields, 'nick') };
    case 'public':
      return { type: 'public', text: textField(fields) };
    case 'private':
      return { type: 'private', to: nickField(fields, 'to'), text: textField(fields) };
    default:
      throw new Malformed('"type" must be hello, nick, public or private');
  }
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Malformed('not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new Malformed('not a JSON object');
  }
  return { ...value };
}

function nickField(fields: Record<string, unknown>, name: 'nick' | 'to'): string {
  const nick = fields[name];
  if (typeof nick === 'string' && /^\w{1,16}$/.test(nick)) return nick;
  throw new Malformed(`"${name}" must be 1 to 16 letters, digits or underscores`);
}

function textField(fields: Record<string, unknown>): string {
  const text = fields['text'];
  if (typeof text === 'string' && text !== '') return text;
  throw new Malformed('"text" must be a string that is not empty');
}

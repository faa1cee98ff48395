// PROXY headers for tests, of both versions.

export const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');

export const text = (line: string) => Buffer.from(line, 'latin1');

/** A header of version 2. `length`: what it says about the bytes that follow. */
export function binary(
  versionAndCommand: number,
  familyAndTransport: number,
  body: Buffer,
  length = body.length,
): Buffer {
  const fixed = Buffer.from([versionAndCommand, familyAndTransport, length >> 8, length & 0xff]);
  return Buffer.concat([SIGNATURE, fixed, body]);
}

/** 192.0.2.7 port 56324, to 10.0.0.1 port 443. */
export const IPV4_BODY = Buffer.from('c00002070a000001dc0401bb', 'hex');
/** 2001:db8::7 port 56324, to ::1 port 443. */
export const IPV6_BODY = Buffer.from(
  '20010db8000000000000000000000007' + '00000000000000000000000000000001' + 'dc0401bb',
  'hex',
);
/** Two fields that follow the addresses: ALPN `h2`, and one that does nothing. */
export const FIELDS = Buffer.from('0100026832' + '040000', 'hex');

const IPV4 = { remoteAddress: '192.0.2.7', remotePort: 56324, remoteFamily: 'IPv4' };
const IPV6 = { remoteAddress: '2001:db8::7', remotePort: 56324, remoteFamily: 'IPv6' };

/** Headers, and the clients that they name. */
export const VALID: readonly (readonly [
  name: string,
  header: Buffer,
  client: object | undefined,
])[] = [
  ['version 1, IPv4', text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n'), IPV4],
  ['version 1, IPv6', text('PROXY TCP6 2001:DB8:0::7 ::1 56324 443\r\n'), IPV6],
  ['version 1, mapped', text('PROXY TCP6 ::ffff:192.0.2.7 ::1 56324 443\r\n'), IPV4],
  [
    'version 1, the longest addresses',
    text(
      'PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0007 2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff 56324 65535\r\n',
    ),
    IPV6,
  ],
  ['version 1, port 0', text('PROXY TCP4 192.0.2.7 10.0.0.1 0 0\r\n'), { ...IPV4, remotePort: 0 }],
  ['version 1, UNKNOWN', text('PROXY UNKNOWN\r\n'), undefined],
  ['version 1, UNKNOWN with a rest', text('PROXY UNKNOWN 1.2.3.4 \xff\0 65535\r\n'), undefined],
  ['version 1, the longest UNKNOWN', text(`PROXY UNKNOWN ${'x'.repeat(91)}\r\n`), undefined],
  ['version 2, IPv4', binary(0x21, 0x11, IPV4_BODY), IPV4],
  ['version 2, IPv6', binary(0x21, 0x21, IPV6_BODY), IPV6],
  ['version 2, datagrams', binary(0x21, 0x12, IPV4_BODY), IPV4],
  [
    'version 2, mapped',
    binary(
      0x21,
      0x21,
      Buffer.concat([
        Buffer.from('00000000000000000000ffffc0000207', 'hex'),
        IPV6_BODY.subarray(16),
      ]),
    ),
    IPV4,
  ],
  ['version 2, with fields', binary(0x21, 0x11, Buffer.concat([IPV4_BODY, FIELDS])), IPV4],
  [
    'version 2, the longest',
    binary(0x21, 0x21, Buffer.concat([IPV6_BODY, Buffer.alloc(4096 - 16 - 36, 4)])),
    IPV6,
  ],
  ['version 2, LOCAL', binary(0x20, 0x00, Buffer.alloc(0)), undefined],
  ['version 2, LOCAL with a family', binary(0x20, 0xff, IPV4_BODY), undefined],
  ['version 2, UNSPEC', binary(0x21, 0x00, FIELDS), undefined],
  ['version 2, an unspecified transport', binary(0x21, 0x10, IPV4_BODY), undefined],
  ['version 2, Unix', binary(0x21, 0x31, Buffer.alloc(216, 'x')), undefined],
];

export const INVALID: readonly (readonly [name: string, header: Buffer])[] = [
  ['no header', text('GET / HTTP/1.1\r\n\r\n')],
  ['TLS', Buffer.from('160301', 'hex')],
  ['the first byte alone', text('G')],
  ['another case', text('proxy TCP4 192.0.2.7 10.0.0.1 56324 443\r\n')],
  ['another protocol', text('PROXY UDP4 192.0.2.7 10.0.0.1 56324 443\r\n')],
  ['a longer protocol', text('PROXY UNKNOWNS\r\n')],
  ['two spaces', text('PROXY TCP4  192.0.2.7 10.0.0.1 56324 443\r\n')],
  ['a trailing space', text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 \r\n')],
  ['a missing port', text('PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n')],
  ['a port above 65535', text('PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n')],
  ['a destination port above 65535', text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 99999\r\n')],
  ['a port with a zero before', text('PROXY TCP4 192.0.2.7 10.0.0.1 056324 443\r\n')],
  ['a negative port', text('PROXY TCP4 192.0.2.7 10.0.0.1 -1 443\r\n')],
  ['an octal address', text('PROXY TCP4 192.0.2.07 10.0.0.1 56324 443\r\n')],
  ['a number as the address', text('PROXY TCP4 3221225991 10.0.0.1 56324 443\r\n')],
  ['a host name', text('PROXY TCP4 localhost 10.0.0.1 56324 443\r\n')],
  ['an address of the other family', text('PROXY TCP4 2001:db8::7 ::1 56324 443\r\n')],
  ['IPv4 as IPv6', text('PROXY TCP6 192.0.2.7 10.0.0.1 56324 443\r\n')],
  ['IPv4 with a port as IPv6', text('PROXY TCP6 192.0.2.7:80 ::1 56324 443\r\n')],
  ['a zone', text('PROXY TCP6 fe80::7%eth0 ::1 56324 443\r\n')],
  ['a wrong destination', text('PROXY TCP4 192.0.2.7 10.0.0 56324 443\r\n')],
  ['LF alone', text('PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n')],
  ['LF alone after UNKNOWN', text('PROXY UNKNOWN\n')],
  ['CR in the middle', text('PROXY TCP4 192.0.2.7 10.0.0.1\r56324 443\r\n')],
  ['108 bytes', text(`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`)],
  ['107 bytes without CRLF', text(`PROXY UNKNOWN ${'x'.repeat(93)}`)],
  ['another signature', Buffer.from('0d0a0d0a000d0a515549540b21110000', 'hex')],
  ['version 1 in binary', binary(0x11, 0x11, IPV4_BODY)],
  ['version 3', binary(0x31, 0x11, IPV4_BODY)],
  ['an unknown command', binary(0x22, 0x11, IPV4_BODY)],
  ['an unknown family', binary(0x21, 0x41, IPV4_BODY)],
  ['an unknown transport', binary(0x21, 0x13, IPV4_BODY)],
  ['addresses that are cut', binary(0x21, 0x11, IPV4_BODY.subarray(0, 11))],
  ['IPv6 addresses in the length of IPv4', binary(0x21, 0x21, IPV4_BODY)],
  ['a Unix path that is cut', binary(0x21, 0x31, Buffer.alloc(215))],
  ['a length above 4096 bytes', binary(0x21, 0x11, IPV4_BODY, 4081)],
  ['the longest length', binary(0x20, 0x00, Buffer.alloc(0), 0xffff)],
];

// What the header of an ELF file says before the system loads the file. glibc maps one that was cut
// off and dies of it (SIGBUS), and of one for another processor it says that there is no such file.
// The loaders of Windows and macOS look for themselves.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const MAGIC = 0x7f454c46;
const HEADER_BYTES = 64;
/** The processors by their numbers in the header, named as `process.arch` does. */
const PROCESSORS: Readonly<Record<number, string>> = {
  3: 'ia32',
  21: 'ppc64',
  22: 's390x',
  40: 'arm',
  62: 'x64',
  183: 'arm64',
  243: 'riscv64',
  258: 'loong64',
};

/** Throws, saying why, where the system must not be given the file; what is no ELF it refuses itself. */
export function requireLoadable(path: string): void {
  const { header, size } = read(path);
  if (header.byteLength < HEADER_BYTES || header.getUint32(0) !== MAGIC) return;
  const little = header.getUint8(5) === 1;
  const processor = PROCESSORS[header.getUint16(18, little)] ?? 'another processor';
  if (processor !== process.arch && Object.values(PROCESSORS).includes(process.arch)) {
    throw new Error(`it is for ${processor}, and this is ${process.arch}`);
  }
  const end = endOfSections(header, little);
  if (end === 0) throw new Error('it has no table of sections, so that it may be cut off');
  if (size < end) throw new Error(`it is cut off: ${size} bytes of ${end}`);
}

function read(path: string): { header: DataView; size: number } {
  const file = openSync(path, 'r');
  try {
    const bytes = new Uint8Array(HEADER_BYTES);
    const count = readSync(file, bytes);
    return { header: new DataView(bytes.buffer, 0, count), size: fstatSync(file).size };
  } finally {
    closeSync(file);
  }
}

/** Where the table of sections ends, which linkers write last; 0 where there is none. */
function endOfSections(header: DataView, little: boolean): number {
  const is64 = header.getUint8(4) === 2;
  const begin = is64 ? Number(header.getBigUint64(40, little)) : header.getUint32(32, little);
  const [bytes, count] = is64 ? [58, 60] : [46, 48];
  const length = header.getUint16(bytes, little) * header.getUint16(count, little);
  return begin === 0 || length === 0 ? 0 : begin + length;
}

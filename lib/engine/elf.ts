// Checks the header of an ELF file before the system loads the file. glibc maps a truncated file and crashes with
// SIGBUS, and reports a file for another processor as missing. The loaders of Windows and macOS make these checks
// themselves.

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const MAGIC = 0x7f454c46;
const HEADER_BYTES = 64;
/** The names that `process.arch` has for the processor numbers in the header. */
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

/**
 * Throws an error with the reason if the file must not be loaded. Accepts a file that is no ELF file, because the
 * system refuses that itself.
 */
export function requireLoadable(path: string): void {
  const { header, size } = read(path);
  if (header.byteLength < HEADER_BYTES || header.getUint32(0) !== MAGIC) return;
  const little = header.getUint8(5) === 1;
  const processor = PROCESSORS[header.getUint16(18, little)] ?? 'another processor';
  if (processor !== process.arch && Object.values(PROCESSORS).includes(process.arch)) {
    throw new Error(`the binary is for ${processor}, this process runs on ${process.arch}`);
  }
  const end = endOfSections(header, little);
  if (end === 0) throw new Error('the binary has no section table, it may be truncated');
  if (size < end) throw new Error(`the binary is truncated: ${size} of ${end} bytes`);
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

/** The offset of the end of the section table, which linkers write last; 0 without one. */
function endOfSections(header: DataView, little: boolean): number {
  const is64 = header.getUint8(4) === 2;
  const begin = is64 ? Number(header.getBigUint64(40, little)) : header.getUint32(32, little);
  const [bytes, count] = is64 ? [58, 60] : [46, 48];
  const length = header.getUint16(bytes, little) * header.getUint16(count, little);
  return begin === 0 || length === 0 ? 0 : begin + length;
}

// The entry point relay-limiter/persist: snapshots in files, for Node, Bun and Deno. It only re-exports.

export { type KeepOptions, keepSnapshot, type SnapshotKeeper } from './keep-snapshot.js';
export type { Persistent } from './saved.js';
export { loadSnapshot, saveSnapshot } from './snapshot-file.js';

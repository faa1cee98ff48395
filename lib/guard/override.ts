// Stands before a method, or an option, of an object that is somebody else's.

/**
 * Puts `mine` before a method, and returns what takes it away again. Where somebody else has come before
 * it meanwhile it stays, so it must then do no more than call the original.
 */
export function override<Target extends object, Name extends keyof Target>(
  target: Target,
  name: Name,
  mine: Target[Name],
): () => void {
  const isOwn = Object.hasOwn(target, name);
  const original = target[name];
  target[name] = mine;
  return () => {
    if (target[name] !== mine) return;
    if (isOwn) target[name] = original;
    else delete target[name];
  };
}

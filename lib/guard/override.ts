// override: how a guard hooks into the sockets and servers of other code.

/**
 * Replaces a method, or an option, of an object that belongs to other code, and returns a function that restores it.
 * If other code has replaced it again meanwhile, that function changes nothing and `replacement` stays in use: it must
 * then only call the original.
 */
export function override<Target extends object, Name extends keyof Target>(
  target: Target,
  name: Name,
  replacement: Target[Name],
): () => void {
  const isOwn = Object.hasOwn(target, name);
  const original = target[name];
  target[name] = replacement;
  return () => {
    if (target[name] !== replacement) return;
    if (isOwn) target[name] = original;
    else delete target[name];
  };
}

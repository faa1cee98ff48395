// What kind of thing a value is, told without throwing: whatever looks at a revoked proxy throws a TypeError, which
// says nothing of the argument that was wrong.

type Fields = Readonly<Record<string, unknown>>;

/** Whether it is a proxy that has been revoked: of an object or a function. */
export function isRevoked(value: unknown): boolean {
  try {
    Array.isArray(value);
    return false;
  } catch {
    return true;
  }
}

/** `Array.isArray`; false for a revoked proxy. */
export function isArray(value: unknown): value is unknown[] {
  return !isRevoked(value) && Array.isArray(value);
}

/** `instanceof`; false for a revoked proxy. */
export function isInstance<Instance>(
  value: unknown,
  Class: abstract new (...args: never[]) => Instance,
): value is Instance {
  return !isRevoked(value) && value instanceof Class;
}

/** Whether it is an object whose fields are its own matter: no array, no Map, Date, Promise or the like. */
export function isRecord(value: unknown): value is Fields {
  if (typeof value !== 'object' || value === null || isRevoked(value)) return false;
  return !Array.isArray(value) && (isPlain(value) || kindOf(value) === 'Object');
}

/** Whether it is an object as `{}` makes one, of whatever realm, or one without a prototype. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Whether it has methods of all these names. */
export function hasMethods(value: unknown, ...names: readonly (string | symbol)[]): boolean {
  const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
  if (!isObject || isRevoked(value)) return false;
  return names.every((name) => typeof (value as Record<PropertyKey, unknown>)[name] === 'function');
}

/** Such as `Map` or `Date`; `Object` for most, and for one that does not want to tell. */
export function kindOf(value: object): string {
  try {
    return Object.prototype.toString.call(value).slice('[object '.length, -1);
  } catch {
    return 'Object';
  }
}

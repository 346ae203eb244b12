/** How many functions stand in front of methods of each object. */
const counts = new WeakMap<object, number>();
const count = (target: object, by: 1 | -1): void => void counts.set(target, (counts.get(target) ?? 0) + by);

/** True while some method of the object is not its own. */
export const isIntercepted = (target: object): boolean => (counts.get(target) ?? 0) > 0;

/** Puts a function in front of one method of one object; what is returned takes it away again. Idle parts pay nothing. */
export function intercept<T extends object, K extends keyof T>(
  target: T,
  name: K,
  replace: (original: T[K]) => T[K],
): () => void {
  const own = Object.getOwnPropertyDescriptor(target, name);
  const value: unknown = target[name];
  const bound = (typeof value === 'function' ? value.bind(target) : value) as T[K];
  Object.defineProperty(target, name, { configurable: true, writable: true, enumerable: true, value: replace(bound) });
  count(target, 1);
  let isThere = true;
  return () => {
    if (isThere) count(target, -1);
    isThere = false;
    if (own) Object.defineProperty(target, name, own);
    else Reflect.deleteProperty(target, name);
  };
}

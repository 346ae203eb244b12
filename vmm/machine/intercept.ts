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
  return () => {
    if (own) Object.defineProperty(target, name, own);
    else Reflect.deleteProperty(target, name);
  };
}

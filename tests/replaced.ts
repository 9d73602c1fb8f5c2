/** Puts something in the place of a property until it is disposed, such as a clock. */
export function replaced<T extends object, K extends keyof T>(object: T, name: K, value: T[K]): Disposable {
  const before = object[name];
  object[name] = value;
  return { [Symbol.dispose]: () => void (object[name] = before) };
}

/** The part of `xmlrpc` 1.3.2 that tests compare with, and only that: the package has no types of its own. */
declare module 'xmlrpc/lib/serializer.js' {
  export function serializeMethodCall(method: string, params: readonly unknown[]): string;
  export function serializeMethodResponse(value: unknown): string;
}

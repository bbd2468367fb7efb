/** What a call must answer: small checks that are put together. A check tells what is wrong, or nothing. */
import { childValue, Float, isList, type Sxp } from '@xenhost/sxp';
import { XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';

export type Check = (value: XmlRpcValue) => string | undefined;

/** A fault, with its code and text. */
export interface FaultExpected {
  readonly code: number;
  readonly text: string | RegExp;
}

const shown = (value: unknown): string => {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
};

const isType =
  (name: string, test: (value: XmlRpcValue) => boolean): Check =>
  (value) =>
    test(value) ? undefined : `${shown(value)} is no ${name}`;

export const nil = isType('nil', (value) => value === null);
export const integer = isType('integer', (value) => typeof value === 'number');
export const double = isType('double', (value) => value instanceof Float);
export const boolean = isType('boolean', (value) => typeof value === 'boolean' || value === 0 || value === 1);
export const anything: Check = () => undefined;

export const text =
  (pattern = /[^]*/): Check =>
  (value) =>
    typeof value === 'string' && pattern.test(value) ? undefined : `${shown(value)} is no text like ${String(pattern)}`;

export const is =
  (wanted: XmlRpcValue): Check =>
  (value) =>
    shown(value) === shown(wanted) ? undefined : `${shown(value)} instead of ${shown(wanted)}`;

export const listOf =
  (each: Check, least = 0): Check =>
  (value) => {
    if (!Array.isArray(value)) return `${shown(value)} is no list`;
    const items = value as readonly XmlRpcValue[];
    if (items.length < least) return `${items.length} items instead of ${least} or more`;
    return items.map(each).find((complaint) => complaint !== undefined);
  };

/** A list that has these among its items. */
export const containing =
  (...wanted: readonly XmlRpcValue[]): Check =>
  (value) => {
    const items = Array.isArray(value) ? (value as readonly XmlRpcValue[]).map(shown) : [];
    const missing = wanted.find((item) => !items.includes(shown(item)));
    return missing === undefined ? undefined : `${shown(missing)} is not in ${shown(value)}`;
  };

/** SXP: its tag, and what children with one value hold. */
export const sxp =
  (tag: string, children: Readonly<Record<string, Check>> = {}): Check =>
  (value) => {
    if (!isList(value as Sxp) || (value as readonly XmlRpcValue[])[0] !== tag)
      return `${shown(value)} is no (${tag} ...)`;
    return childrenFail(value, children);
  };

export const without =
  (key: string): Check =>
  (value) =>
    childValue(value as Sxp, key) === undefined ? undefined : `there is a ${key} in ${shown(value)}`;

/** A list of [key, value] pairs. */
export const pairs =
  (children: Readonly<Record<string, Check>>): Check =>
  (value) =>
    isList(value as Sxp) ? childrenFail(value, children) : `${shown(value)} is no list of pairs`;

function childrenFail(value: XmlRpcValue, children: Readonly<Record<string, Check>>): string | undefined {
  for (const [key, check] of Object.entries(children)) {
    const child = childValue(value as Sxp, key);
    if (child === undefined) return `no ${key} in ${shown(value)}`;
    const complaint = check(child);
    if (complaint !== undefined) return `${key}: ${complaint}`;
  }
  return undefined;
}

/** Keys of pairs, all of them in this order; those in brackets may be missing, and one may come again. */
export const keysInOrder =
  (...keys: readonly string[]): Check =>
  (value) => {
    const all = Array.isArray(value)
      ? (value as readonly XmlRpcValue[]).map((pair) => shown((pair as readonly XmlRpcValue[])[0]).replaceAll('"', ''))
      : [];
    const found = all.filter((key, index) => all.indexOf(key) === index);
    const wanted = keys.filter((key) => !key.startsWith('[') || found.includes(key.slice(1, -1)));
    const plain = wanted.map((key) => key.replace(/^\[|\]$/g, ''));
    return shown(found) === shown(plain) ? undefined : `${shown(found)} instead of ${shown(plain)}`;
  };

export const struct =
  (members: Readonly<Record<string, Check>>): Check =>
  (value) => {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) return `${shown(value)} is no struct`;
    for (const [name, check] of Object.entries(members)) {
      const member = (value as Readonly<Record<string, XmlRpcValue>>)[name];
      const complaint = member === undefined ? 'missing' : check(member);
      if (complaint !== undefined) return `${name}: ${complaint}`;
    }
    return undefined;
  };

export const both =
  (...checks: readonly Check[]): Check =>
  (value) =>
    checks.map((check) => check(value)).find((complaint) => complaint !== undefined);

export const either =
  (...checks: readonly Check[]): Check =>
  (value) => {
    const complaints = checks.map((check) => check(value));
    return complaints.includes(undefined) ? undefined : complaints.join(', and ');
  };

export const fault = (code: number, text: string | RegExp): FaultExpected => ({ code, text });

/** Makes the call and throws, with what is wrong, unless it ends as expected. */
export async function expectCall(
  call: () => Promise<XmlRpcValue>,
  expected: Check | FaultExpected,
): Promise<XmlRpcValue> {
  let value: XmlRpcValue;
  try {
    value = await call();
  } catch (error) {
    if (!(error instanceof XmlRpcFault)) throw error;
    const got = `fault ${error.faultCode} ${shown(error.faultString)}`;
    if (typeof expected === 'function') throw new Error(got, { cause: error });
    const { code, text: wanted } = expected;
    const right = typeof wanted === 'string' ? wanted === error.faultString : wanted.test(error.faultString);
    if (code !== error.faultCode || !right)
      throw new Error(`${got} instead of ${code} ${String(wanted)}`, { cause: error });
    return null;
  }
  const complaint = typeof expected === 'function' ? expected(value) : `${shown(value)} instead of a fault`;
  if (complaint !== undefined) throw new Error(complaint);
  return value;
}

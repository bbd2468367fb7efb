/** Calls to the Xen-API: a session that logs in at its first call and once more when it has expired (`XenAPI.py`). */
import { isStruct, textOf } from './values.ts';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { XendClient } from '../client.ts';
import { OptionError, XenApiFailure } from '../errors.ts';

const LOGIN = 'session.login_with_password';

export class XenApi {
  readonly #client: XendClient;
  readonly #username: string;
  readonly #password: string;
  #session: string | undefined;

  constructor(options: { readonly username: string; readonly password: string }, client: XendClient) {
    this.#client = client;
    this.#username = options.username;
    this.#password = options.password;
  }

  /** The session's reference. */
  async session(): Promise<string> {
    this.#session ??= textOf(valueOf(await this.#client.callRaw(LOGIN, this.#username, this.#password)));
    return this.#session;
  }

  /** The value of a successful answer. Throws XenApiFailure, and what the client throws. */
  async call(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    try {
      return valueOf(await this.#client.callRaw(method, await this.session(), ...params));
    } catch (error) {
      if (!(error instanceof XenApiFailure) || error.details[0] !== 'SESSION_INVALID')
        throw countedWithoutSession(error);
      this.#session = undefined;
      return valueOf(await this.#client.callRaw(method, await this.session(), ...params));
    }
  }

  async text(method: string, ...params: readonly XmlRpcValue[]): Promise<string> {
    return textOf(await this.call(method, ...params));
  }

  async list(method: string, ...params: readonly XmlRpcValue[]): Promise<string[]> {
    const value = await this.call(method, ...params);
    return Array.isArray(value) ? (value as readonly XmlRpcValue[]).map(String) : [];
  }

  async record(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcStruct> {
    const value = await this.call(method, ...params);
    return isStruct(value) ? value : {};
  }

  /** Records by reference. */
  async records(method: string): Promise<[string, XmlRpcStruct][]> {
    return Object.entries(await this.record(method)).map(([ref, record]) => [ref, isStruct(record) ? record : {}]);
  }

  /** The host that answers. */
  async host(): Promise<string> {
    return this.text('session.get_this_host', await this.session());
  }

  /** The machine of a name or an id. Throws OptionError. */
  async vm(dom: string): Promise<string> {
    const [byName] = await this.list('VM.get_by_name_label', dom);
    if (byName !== undefined) return byName;
    if (/^\d+$/.test(dom)) {
      for (const ref of await this.list('VM.get_all')) {
        if ((await this.text('VM.get_domid', ref)) === dom) return ref;
      }
    }
    throw new OptionError(`Domain '${dom}' not found.`, { after: '' });
  }

  async logout(): Promise<void> {
    if (this.#session === undefined) return;
    await this.#client.callRaw('session.logout', this.#session).catch(() => undefined);
  }
}

function valueOf(answer: XmlRpcValue): XmlRpcValue {
  if (!isStruct(answer) || typeof answer['Status'] !== 'string') {
    throw new XenApiFailure(['INTERNAL_ERROR', 'Missing Status in response from server']);
  }
  if (answer['Status'] === 'Success') return answer['Value'] ?? null;
  const details = answer['ErrorDescription'];
  throw new XenApiFailure(
    Array.isArray(details) ? (details as readonly XmlRpcValue[]).map(String) : ['INTERNAL_ERROR'],
  );
}

/** The session is an argument that the user did not give. */
function countedWithoutSession(error: unknown): unknown {
  if (!(error instanceof XenApiFailure)) return error;
  const [code, method = '', expected, given] = error.details;
  if (code !== 'MESSAGE_PARAMETER_COUNT_MISMATCH') return error;
  return new XenApiFailure([code, method, String(Number(expected) - 1), String(Number(given) - 1)]);
}

const TEXTS: Readonly<Record<string, (one: string, two: string, three: string) => string>> = {
  INTERNAL_ERROR: (text) => `Internal error: ${text}.`,
  MAP_DUPLICATE_KEY: (key, value) => `This map already contains ${key} -> ${value}.`,
  MESSAGE_METHOD_UNKNOWN: (method) => `The method ${method} is unsupported.`,
  MESSAGE_PARAMETER_COUNT_MISMATCH: (method, wanted, given) =>
    `The method ${method} takes ${wanted} argument(s) (${given} given).`,
  SESSION_AUTHENTICATION_FAILED: () => 'Permission denied.',
  VALUE_NOT_SUPPORTED: (what, value, why) =>
    `Value "${value}" for ${what} is not supported by this server.  The server said "${why}".`,
  HANDLE_INVALID: (kind, ref) => `The ${kind} handle ${ref} is invalid.`,
  OPERATION_NOT_ALLOWED: () => 'You attempted an operation that was not allowed.',
  NETWORK_ALREADY_CONNECTED: () =>
    'The network you specified already has a PIF attached to it, and so another one may not be attached.',
  SECURITY_ERROR: (_code, text) => text,
};

/** Whether there is a text for such a failure; where there is none, Xen 4.4 names it on a line of its own first. */
export const isKnown = ({ details: [code = ''] }: XenApiFailure): boolean => Object.hasOwn(TEXTS, code);

/** What a person reads of a failure. */
export function failureText({ details }: XenApiFailure): string {
  const [code = '', one = '', two = '', three = ''] = details;
  const text = Object.hasOwn(TEXTS, code) ? TEXTS[code] : undefined;
  return text?.(one, two, three) ?? `Xen-API failure: [${details.map((detail) => `'${detail}'`).join(', ')}]`;
}

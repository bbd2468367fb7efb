/**
 * What the Xen-API offers to the sockets that carry it: a call in, a result struct out. It knows nothing of HTTP or of
 * XML; whoever mounts it decodes requests and encodes what it answers. Answers to Xen 4.4 `XendAPI.py`.
 */
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { Method, MethodContext } from '../rpc/method.ts';

/** How a listener lets people in (`xen-api-server` of xend-config.sxp): anybody, or who PAM knows. */
export type XenApiAuth = 'none' | 'pam';

/** Who is calling. */
export interface XenApiPeer {
  /** Whether the call came over a Unix socket. */
  readonly local: boolean;
  /** The listener's own rule. */
  readonly auth: XenApiAuth;
  /** Aborted when the connection is gone: a blocked event.next ends then. */
  readonly signal?: AbortSignal;
}

export interface XenApiOptions {
  /** Folder of records. */
  readonly stateFolder: string;
  /** Folder of storage repositories and their images. */
  readonly storageFolder: string;
  /** Seconds without a call after which a session is no more. */
  readonly sessionIdleS?: number;
}

export interface XenApiPorts {
  /** The domains, as the legacy methods see them. */
  readonly context: MethodContext;
  /** The table of legacy methods: what both APIs offer is done by one and the same handler. */
  readonly methods: ReadonlyMap<string, Method>;
  /** Whether the name and password are right, for listeners with `pam`. Without it nobody is let in there. */
  readonly authenticate?: (user: string, password: string) => Promise<boolean>;
}

export interface XenApi {
  /** Whether this is a method of the Xen-API, `Async.` ones included. */
  has(method: string): boolean;
  /** The names of all methods, sorted, without their `Async.` forms: what system.listMethods answers bare. */
  methodNames(): string[];
  /**
   * Runs a call. Resolves to `{Status: 'Success', Value}` or `{Status: 'Failure', ErrorDescription}` and never rejects;
   * system.listMethods alone resolves to a bare list.
   */
  call(method: string, params: readonly XmlRpcValue[], peer: XenApiPeer): Promise<XmlRpcValue>;
  /** Ends sessions, blocked event.next calls and timers; resolves when tasks under way have ended and records are stored. */
  close(): Promise<void>;
}

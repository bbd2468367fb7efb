/** Calls to xend: XML-RPC over HTTP on its Unix socket, on TCP or through ssh. One call at a time, one connection. */
import type { Duplex } from 'node:stream';
import { pythonUnescape } from '@xenhost/sxp';
import { decodeResponse, encodeCall, RESPONSE_LIMITS, XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { ConnectionError, ProtocolError, UnknownMethod } from './errors.ts';
import type { ServerAddress } from './server/address.ts';
import { HttpConnection } from './server/http.ts';
import type { World } from './world.ts';

export class XendClient {
  /** Whether xend is on this host: what it tells of files is true of ours. */
  readonly isLocal: boolean;
  readonly #connection: HttpConnection;
  readonly #path: string;
  readonly #bySsh: boolean;

  constructor(address: ServerAddress, world: World) {
    this.isLocal = address.kind === 'unix';
    this.#bySsh = address.kind === 'ssh';
    this.#path = address.kind === 'ssh' ? `/${address.path}` : '/RPC2';
    this.#connection = new HttpConnection(
      { host: hostField(address), maxBodyBytes: RESPONSE_LIMITS.maxLength, signal: world.signal },
      () => dial(address, world),
    );
  }

  /** Throws XmlRpcFault, UnknownMethod, ConnectionError, ProtocolError. */
  async call(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    const result = await this.callRaw(method, ...params);
    if (isUnknownMethod(result)) throw new UnknownMethod(method);
    // xend sends a result that is one string as the inside of its Python repr.
    return typeof result === 'string' ? pythonUnescape(result) : result;
  }

  /** The result as it came: the Xen-API's, which says in itself whether it is a failure. */
  async callRaw(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    return decodeResponse(await this.#post(encodeCall(method, params)));
  }

  close(): void {
    this.#connection.close();
  }

  async #post(document: string): Promise<string> {
    const { status, reason, body } = await this.#connection.post(this.#path, document).catch((error: unknown) => {
      const { code } = error as NodeJS.ErrnoException;
      if (this.#bySsh && code === 'ENOENT') throw new XmlRpcFault(0, 'ssh executable not found!');
      throw asCallError(error as NodeJS.ErrnoException);
    });
    if (status !== 200) throw new ProtocolError(status, reason);
    return body;
  }
}

/** xm of Xen 4.4 gave the socket's path here. */
function hostField(address: ServerAddress): string {
  if (address.kind === 'unix') return address.path.replace(/[^\x21-\x7e]/g, '?');
  return address.kind === 'ssh' ? address.host : address.url.host;
}

function dial(address: ServerAddress, world: World): Duplex {
  switch (address.kind) {
    case 'unix':
      return process.getBuiltinModule('node:net').connect({ path: address.path });
    // No shell on this side; the far side's shell gets one fixed command (Xen 4.4 `SSHTransport.py`).
    case 'ssh':
      return world.connect('ssh', [`${address.user}@${address.host}`, 'xm serve']);
    case 'http': {
      const { host, port } = hostAndPort(address.url, 80);
      return process.getBuiltinModule('node:net').connect({ host, port });
    }
    case 'https': {
      const { host, port } = hostAndPort(address.url, 443);
      const net = process.getBuiltinModule('node:net');
      const servername = net.isIP(host) === 0 ? { servername: host } : {};
      return process.getBuiltinModule('node:tls').connect({ host, port, ...servername });
    }
  }
}

const hostAndPort = (url: URL, defaultPort: number): { readonly host: string; readonly port: number } => ({
  host: url.hostname.replace(/^\[|\]$/g, ''),
  port: url.port === '' ? defaultPort : Number(url.port),
});

/** How xend's legacy server answers for what it does not have: not with a fault. */
function isUnknownMethod(result: XmlRpcValue): boolean {
  const description = (result as { readonly ErrorDescription?: unknown } | null)?.ErrorDescription;
  return Array.isArray(description) && description[0] === 'MESSAGE_METHOD_UNKNOWN';
}

function asCallError(error: NodeJS.ErrnoException): Error {
  if (error instanceof ProtocolError || error.name === 'AbortError') return error;
  const code = error.code ?? '';
  if (code === 'ECONNRESET' || code === 'EPIPE') return new ProtocolError(undefined, error.message);
  return new ConnectionError(code === '' ? error.message : code, { cause: error });
}

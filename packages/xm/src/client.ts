/** Calls to xend: XML-RPC over HTTP on its Unix socket, on TCP or through ssh. One call at a time, one connection. */
import type { Agent, ClientRequest, IncomingMessage, RequestOptions } from 'node:http';
import { pythonUnescape } from '@xenhost/sxp';
import { decodeResponse, encodeCall, RESPONSE_LIMITS, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { ConnectionError, ProtocolError, UnknownMethod } from './errors.ts';
import type { ServerAddress } from './server/address.ts';
import type { World } from './world.ts';

/** Not by import: that would evaluate every lazy export of the module, the whole of undici among them (35 ms). */
const http = process.getBuiltinModule('node:http');

export class XendClient {
  readonly #address: ServerAddress;
  readonly #world: World;
  #agent: Agent | undefined;

  constructor(address: ServerAddress, world: World) {
    this.#address = address;
    this.#world = world;
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
    this.#agent?.destroy();
  }

  async #post(body: string): Promise<string> {
    const address = this.#address;
    const options: RequestOptions = {
      method: 'POST',
      path: address.kind === 'ssh' ? `/${address.path}` : '/RPC2',
      headers: {
        'content-type': 'text/xml',
        'content-length': Buffer.byteLength(body),
        'user-agent': 'xenhost-xm',
      },
      signal: this.#world.signal,
    };
    const response = await this.#send(options, body);
    const text = await readBody(response);
    if (response.statusCode !== 200) throw new ProtocolError(response.statusCode, response.statusMessage ?? '');
    return text;
  }

  async #send(options: RequestOptions, body: string): Promise<IncomingMessage> {
    const ask = await this.#asker(options);
    return new Promise((resolve, reject) => {
      const asking = ask();
      asking.on('response', resolve);
      asking.on('error', (error: NodeJS.ErrnoException) => {
        reject(asCallError(error));
      });
      asking.end(body);
    });
  }

  async #asker(options: RequestOptions): Promise<() => ClientRequest> {
    const address = this.#address;
    const keepAlive = { keepAlive: true, maxSockets: 1 };
    switch (address.kind) {
      case 'unix': {
        const agent = (this.#agent ??= new http.Agent(keepAlive));
        return () => http.request({ ...options, socketPath: address.path, agent });
      }
      case 'ssh': {
        const { SshAgent } = await import('./server/ssh.ts');
        const agent = (this.#agent ??= new SshAgent(address, this.#world));
        return () => http.request({ ...options, host: address.host, agent });
      }
      case 'http':
      case 'https': {
        const { request, Agent } = address.kind === 'http' ? http : process.getBuiltinModule('node:https');
        const agent = (this.#agent ??= new Agent(keepAlive));
        const { hostname, port } = address.url;
        return () => request({ ...options, host: hostname.replace(/^\[|\]$/g, ''), port, agent });
      }
    }
  }
}

/** How xend's legacy server answers for what it does not have: not with a fault. */
function isUnknownMethod(result: XmlRpcValue): boolean {
  const description = (result as { readonly ErrorDescription?: unknown } | null)?.ErrorDescription;
  return Array.isArray(description) && description[0] === 'MESSAGE_METHOD_UNKNOWN';
}

function asCallError(error: NodeJS.ErrnoException): Error {
  if (error.name === 'AbortError') return error;
  const code = error.code ?? '';
  if (code === 'ECONNRESET' || code.startsWith('HPE_')) return new ProtocolError(undefined, error.message);
  return new ConnectionError(code === '' ? error.message : code, { cause: error });
}

function readBody(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > RESPONSE_LIMITS.maxLength) response.destroy(new ProtocolError(undefined, 'answer too long'));
      else chunks.push(chunk);
    });
    response.on('end', () => {
      resolve(Buffer.concat(chunks).toString('utf8'));
    });
    response.on('error', (error: NodeJS.ErrnoException) => {
      reject(error instanceof ProtocolError ? error : asCallError(error));
    });
  });
}

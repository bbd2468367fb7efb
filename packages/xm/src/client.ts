/** Calls to xend: XML-RPC over HTTP on its Unix socket or on TCP, as `XM_SERVER` says. One call at a time, one connection. */
import type { Agent, IncomingMessage, RequestOptions } from 'node:http';
import { hostPaths } from '@xenhost/daemon-kit';
import { pythonUnescape } from '@xenhost/sxp';
import { decodeResponse, encodeCall, RESPONSE_LIMITS, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { CommandFailed, ConnectionError, ProtocolError } from './errors.ts';

/** Not by import: that would evaluate every lazy export of the module, the whole of undici among them (35 ms). */
const http = process.getBuiltinModule('node:http');

/** Where xend is. */
export type ServerAddress =
  { readonly kind: 'unix'; readonly path: string } | { readonly kind: 'http' | 'https'; readonly url: URL };

/** `httpu:///path`, `http://host:port`, `https://host:port`. Throws CommandFailed. */
export function serverAddress(env: NodeJS.ProcessEnv): ServerAddress {
  const given = env['XM_SERVER'];
  if (given === undefined || given === '') return { kind: 'unix', path: hostPaths(env).xendXmlrpc };
  const unix = /^httpu:\/\/(\/.*)$/.exec(given)?.[1];
  if (unix !== undefined) return { kind: 'unix', path: unix };
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url?.protocol === 'http:') return { kind: 'http', url };
  if (url?.protocol === 'https:') return { kind: 'https', url };
  throw new CommandFailed(
    `XM_SERVER: ${given} is not supported: give httpu:///path, http://host:port or https://host:port`,
  );
}

export class XendClient {
  readonly #address: ServerAddress;
  readonly #signal: AbortSignal;
  #agent: Agent | undefined;

  constructor(address: ServerAddress, signal: AbortSignal) {
    this.#address = address;
    this.#signal = signal;
  }

  /** Throws XmlRpcFault, ConnectionError, ProtocolError. */
  async call(method: string, ...params: readonly XmlRpcValue[]): Promise<XmlRpcValue> {
    const result = decodeResponse(await this.#post(encodeCall(method, params)));
    // xend sends a result that is one string as the inside of its Python repr.
    return typeof result === 'string' ? pythonUnescape(result) : result;
  }

  close(): void {
    this.#agent?.destroy();
  }

  async #post(body: string): Promise<string> {
    const options: RequestOptions = {
      method: 'POST',
      path: '/RPC2',
      headers: {
        'content-type': 'text/xml',
        'content-length': Buffer.byteLength(body),
        'user-agent': 'xenhost-xm',
      },
      signal: this.#signal,
    };
    const response = await this.#send(options, body);
    const text = await readBody(response);
    if (response.statusCode !== 200) throw new ProtocolError(response.statusCode, response.statusMessage ?? '');
    return text;
  }

  #send(options: RequestOptions, body: string): Promise<IncomingMessage> {
    const address = this.#address;
    const ask = address.kind === 'https' ? process.getBuiltinModule('node:https').request : http.request;
    const target: RequestOptions =
      address.kind === 'unix'
        ? {
            ...options,
            socketPath: address.path,
            agent: (this.#agent ??= new http.Agent({ keepAlive: true, maxSockets: 1 })),
          }
        : { ...options, host: address.url.hostname.replace(/^\[|\]$/g, ''), port: address.url.port };
    return new Promise((resolve, reject) => {
      const asking = ask(target, resolve);
      asking.on('error', (error: NodeJS.ErrnoException) => {
        reject(asCallError(error));
      });
      asking.end(body);
    });
  }
}

function asCallError(error: NodeJS.ErrnoException): Error {
  if (error.name === 'AbortError') return error;
  const code = error.code ?? '';
  if (code === 'ECONNRESET' || code.startsWith('HPE_')) return new ProtocolError(undefined, error.message);
  return new ConnectionError(code, { cause: error });
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

/**
 * A server that answers XML-RPC as it is told and remembers what it was asked: xend's legacy methods and the Xen-API's, so
 * that xm can be tested call by call, whatever our own xend has.
 */
import { createServer, type Server } from 'node:http';
import {
  XmlRpcFault,
  decodeCall,
  encodeFault,
  encodeResponse,
  type XmlRpcStruct,
  type XmlRpcValue,
} from '@xenhost/xmlrpc-codec';

/** A value, or what makes one of the parameters; throws XmlRpcFault. */
export type Answer = XmlRpcValue | ((...params: readonly XmlRpcValue[]) => XmlRpcValue);

export class FakeXend {
  readonly socketPath: string;
  /** `method(json,json)` of each call, in order. */
  readonly calls: string[] = [];
  answers: Readonly<Record<string, Answer>> = {};
  readonly #server: Server;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const body = this.#answer(Buffer.concat(chunks).toString());
        response.writeHead(200, { 'content-type': 'text/xml', 'content-length': Buffer.byteLength(body) }).end(body);
      });
    });
  }

  start(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.socketPath, resolve));
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => {
      this.#server.close(() => {
        resolve();
      });
    });
  }

  #answer(document: string): string {
    const { method, params } = decodeCall(document);
    this.calls.push(`${method}(${params.map((param) => JSON.stringify(param)).join(',')})`);
    const answer = this.answers[method];
    if (answer === undefined) return encodeResponse(unknownMethod(method));
    try {
      return encodeResponse(typeof answer === 'function' ? answer(...params) : answer);
    } catch (error) {
      if (error instanceof Error && error.name === 'XmlRpcFault') return encodeFault(error as XmlRpcFault);
      throw error;
    }
  }
}

/** What both of xend's servers say of a method that they do not have. */
export const unknownMethod = (method: string): XmlRpcStruct => ({
  Status: 'Failure',
  ErrorDescription: ['MESSAGE_METHOD_UNKNOWN', method],
});

/** A successful answer of the Xen-API. */
export const success = (value: XmlRpcValue): XmlRpcStruct => ({ Status: 'Success', Value: value });

export const fault =
  (code: number, text: string): Answer =>
  () => {
    throw new XmlRpcFault(code, text);
  };

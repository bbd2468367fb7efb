/** The table of all methods and the one place where a call becomes a result or a fault. Nothing is thrown past it. */
import { pythonRepr } from '@xenhost/sxp';
import {
  decodeCall,
  encodeFault,
  encodeResponse,
  XmlRpcFault,
  type XmlRpcCall,
  type XmlRpcValue,
} from '@xenhost/xmlrpc-codec';
import { FaultCode, InvalidDomainError, PlainFault, XendError, faultOf, messageOf } from '../errors.ts';
import { legacyMethods } from './legacy-methods.ts';
import { ArgumentError, method, WIRE_TYPES, type Method, type MethodContext } from './method.ts';

const introspection: readonly Method[] = [
  method({
    name: 'system.listMethods',
    doc: 'The names of all methods.',
    params: [],
    returns: 'array',
    run: () => Promise.resolve([...methods.keys()].sort()),
  }),
  method({
    name: 'system.methodHelp',
    doc: 'What a method does.',
    params: [{ name: 'name', type: 'string' }],
    returns: 'string',
    run: (_, name) => Promise.resolve(methods.get(name)?.doc ?? ''),
  }),
  method({
    name: 'system.methodSignature',
    doc: 'Types of the result and of the parameters of a method, with and without its optional ones.',
    params: [{ name: 'name', type: 'string' }],
    returns: 'array',
    run: (_, name) => Promise.resolve(signatures(methods.get(name))),
  }),
];

/** Every method by its name. */
export const methods: ReadonlyMap<string, Method> = new Map(
  [...legacyMethods, ...introspection].map((row) => [row.name, row]),
);

function signatures(row: Method | undefined): XmlRpcValue {
  if (!row) return 'signatures not supported';
  const required = row.params.filter((param) => !('default' in param)).length;
  const counts = Array.from({ length: row.params.length - required + 1 }, (_, extra) => required + extra);
  return counts.map((count) => [row.returns, ...row.params.slice(0, count).map((param) => WIRE_TYPES[param.type])]);
}

/** Runs a call. Throws what the handler throws; an unknown method is a result, as the legacy server has it. */
export async function dispatch(context: MethodContext, call: XmlRpcCall): Promise<XmlRpcValue> {
  const row = methods.get(call.method);
  if (!row) return { Status: 'Failure', ErrorDescription: ['MESSAGE_METHOD_UNKNOWN', call.method] };
  const result = await row.run(context, call.params);
  // A whole result that is a string travels as the inside of its Python repr: the client undoes it.
  return typeof result === 'string' ? pythonRepr(result).slice(1, -1) : result;
}

/** A request document to a response document. Never throws. */
export async function answer(context: MethodContext, request: string): Promise<string> {
  let name = 'unreadable request';
  try {
    const call = decodeCall(request);
    name = call.method;
    return encodeResponse(await dispatch(context, call));
  } catch (error) {
    report(context, name, error);
    return encodeFault(faultOf(error));
  }
}

/** A document for a request that never reached a method. */
export function unreadable(message: string): string {
  return encodeFault(new XmlRpcFault(FaultCode.unexpected, message));
}

function report({ manager }: MethodContext, name: string, error: unknown): void {
  const { log } = manager.ports;
  if (error instanceof InvalidDomainError || error instanceof ArgumentError) return;
  if (error instanceof XendError || error instanceof PlainFault) log.warn('XMLRPCServer', `${name}: ${error.message}`);
  else log.error('XMLRPCServer', `Internal error handling ${name}: ${messageOf(error)}`, error);
}

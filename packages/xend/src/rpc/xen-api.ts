/**
 * The Xen-API as a server's answer to a document (Xen 4.4 `xmlrpclib2.py`, with its Xen-API switch on). xenapi/ knows the
 * methods; here documents are read and written. Nothing is thrown past it.
 */
import { decodeCall, encodeResponse, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { messageOf } from '../errors.ts';
import type { XendLog } from '../node/log.ts';
import type { XenApiAuth } from '../options/xen-api-servers.ts';
import type { Answer } from '../server.ts';
import type { XenApi } from '../xenapi/api.ts';
import { methods, unreadable } from './dispatch.ts';

/** How a server with this rule for letting people in answers. */
export function xenApiAnswer(api: XenApi, auth: XenApiAuth, log: XendLog): Answer {
  return async (document, { local, signal }) => {
    let call;
    try {
      call = decodeCall(document);
    } catch (error) {
      return unreadable(messageOf(error));
    }
    const { method, params } = call;
    try {
      // Legacy methods know no sessions. Xen 4.4 ran them here and then refused their results for want of a Status.
      const result =
        !api.has(method) && methods.has(method)
          ? internalError(`Invalid result handling ${method}`)
          : await api.call(method, params, { local, auth, signal });
      return encodeResponse(result);
    } catch (error) {
      log.error('XMLRPCServer', `Internal error handling ${method}: ${messageOf(error)}`, error);
      return encodeResponse(internalError('the result cannot be sent'));
    }
  };
}

const internalError = (text: string): XmlRpcValue => ({
  Status: 'Failure',
  ErrorDescription: ['INTERNAL_ERROR', text],
});

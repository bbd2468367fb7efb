/** The hypervisor's refusals as Xen 4.4's Python bindings told them: `(22, 'Invalid argument')`. */
import { strerror, XenError } from '@xenhost/base';
import { PlainFault, XendError } from '../errors.ts';

export const xcErrorText = (error: XenError): string => `(${error.errno}, '${strerror(error.errno)}')`;

/** A refusal becomes a XendError of that text, as where 4.4 wrapped it. */
export async function asXendError<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof XenError) throw new XendError(xcErrorText(error), { cause: error });
    throw error;
  }
}

/** A refusal becomes an error of that text that is nobody's fault code but 1, as where 4.4 let it through. */
export async function asPlainError<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof XenError) throw new PlainFault(xcErrorText(error), { cause: error });
    throw error;
  }
}

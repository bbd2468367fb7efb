/**
 * What two xends say to each other before and after an image (Xen 4.4 `relocate.py`): lines, answered in SXP. `receive`,
 * `(ready receive)`, the image, `(ok)`. Ours then say whether the machine may run over there: `quit` lets it, as an end of
 * the stream does, which is all that 4.4's do; `cancel` does not.
 */
import { atomText, childValue, parseSxp, printSxp, tagOf, type Sxp } from '@xenhost/sxp';

export const RECEIVE = 'receive';
/** As 4.4 says it over TLS. */
export const SSL_RECEIVE = 'sslreceive';
export const QUIT = 'quit';
export const CANCEL = 'cancel';

/** Most bytes of a line, either way. */
export const MAX_LINE_BYTES = 1024;
const MAX_ERROR_CHARACTERS = 800;

export const lineOf = (value: Sxp): string => `${printSxp(value)}\n`;

/** An error as it goes back to whoever sent a machine. */
export const errorLine = (message: string): string =>
  lineOf(['err', ['type', 'XendError'], ['value', message.slice(0, MAX_ERROR_CHARACTERS)]]);

/** The first word of an answer, and the text of an error. */
export function parseAnswer(line: string): { readonly tag: string | undefined; readonly error: string | undefined } {
  try {
    const value = parseSxp(line);
    return { tag: tagOf(value), error: atomText(childValue(value, 'value')) };
  } catch {
    return { tag: undefined, error: undefined };
  }
}

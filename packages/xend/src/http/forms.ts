/** What comes with a request of the HTTP server: the query, and posted forms of both encodings. */
import { XendError } from '../errors.ts';
import type { Form } from './sxp-operations.ts';

/** The fields of a query; of a field given twice the first counts. */
export const queryOf = (url: string): Form => fieldsOf(url.split('?').slice(1).join('?'));

function fieldsOf(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(text)) if (!fields.has(name)) fields.set(name, value);
  return fields;
}

/** The fields of query and body. Throws XendError for a body that is no form. */
export function formOf(url: string, contentType: string | undefined, body: unknown): Form {
  const fields = new Map(queryOf(url));
  if (!(body instanceof Uint8Array)) return fields;
  const bytes = Buffer.from(body);
  const posted = contentType?.startsWith('multipart/form-data')
    ? multipartOf(contentType, bytes)
    : fieldsOf(bytes.toString());
  for (const [name, value] of posted) fields.set(name, value);
  return fields;
}

const BOUNDARY = /;\s*boundary=(?:"([^"]{1,70})"|([^;\s]{1,70}))/i;
const FIELD_NAME = /^content-disposition:\s*form-data;(?:.*;)?\s*name="([^"]*)"/im;
const HEAD_END = '\r\n\r\n';

/** Forms with files in them, as browsers send them (RFC 7578). Throws XendError. */
function multipartOf(contentType: string, body: Buffer): ReadonlyMap<string, string> {
  const match = BOUNDARY.exec(contentType);
  const delimiter = `\r\n--${match?.[1] ?? match?.[2] ?? ''}`;
  // One character a byte; the first delimiter has no line before it.
  const [, ...parts] = `\r\n${body.toString('latin1')}`.split(delimiter);
  if (!match || !parts.pop()?.startsWith('--')) throw new XendError('the form cannot be read');
  const fields = new Map<string, string>();
  for (const part of parts) {
    const headEnd = part.indexOf(HEAD_END);
    const name = headEnd < 0 ? undefined : FIELD_NAME.exec(part.slice(0, headEnd))?.[1];
    if (name === undefined) throw new XendError('the form cannot be read');
    const value = Buffer.from(part.slice(headEnd + HEAD_END.length), 'latin1').toString();
    if (!fields.has(name)) fields.set(name, value);
  }
  return fields;
}

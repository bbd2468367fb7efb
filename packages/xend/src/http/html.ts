/** Pages of the HTTP server for people with a browser. Everything that came from elsewhere is escaped. */
import { atomText, childValue, isList, prettySxp, printSxp, type Sxp } from '@xenhost/sxp';

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

export const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');

const link = (url: string, text: string): string => `<a href="${escape(url)}">${escape(text)}</a>`;
const below = (url: string, name: string): string => `${url.replace(/\/$/, '')}/${encodeURIComponent(name)}`;

/** A whole page; `path` is shown with links to what is above. */
export function page(path: readonly string[], body: string): string {
  let at = '/';
  const steps = path.map((part) => {
    at += `${part}/`;
    return `${link(at, part)}/`;
  });
  return `<html><head></head><body><h1>${link('/', '/')} ${steps.join(' ')}</h1>${body}</body></html>`;
}

export const value = (sxp: Sxp): string =>
  isList(sxp) ? `<code><pre>${escape(prettySxp(sxp))}</pre></code>` : escape(atomText(sxp) ?? '');

export const list = (url: string, names: readonly string[]): string =>
  `<ul>${names.map((name) => `<li>${link(below(url, name), name)}</li>`).join('')}</ul>`;

export function node(url: string, info: readonly (readonly [string, unknown])[]): string {
  const rows = info.map(([key, item]) => `<li> ${escape(key.padStart(10))}: ${escape(printSxp(item as Sxp))}`);
  const more = [link(below(url, 'dmesg'), 'Xen dmesg output'), link(below(url, 'log'), 'Xend log')];
  return `<ul>${rows.join('')}${more.map((each) => `<li>${each}`).join('')}</ul>`;
}

export const domains = (url: string, names: readonly string[]): string =>
  `${list(url, names)}<form method="post" action="${escape(url)}" enctype="multipart/form-data">` +
  '<button type="submit" name="op" value="create">Create Domain</button>Config <input type="file" name="config"></form>' +
  `<form method="post" action="${escape(url)}" enctype="multipart/form-data">` +
  '<button type="submit" name="op" value="restore">Restore Domain</button>State <input type="text" name="file"></form>';

const OPERATIONS = ['unpause', 'pause', 'destroy', 'reset'];
const REASONS = ['poweroff', 'halt', 'reboot'];

export function domain(url: string, sxp: Sxp): string {
  const form = (inside: string): string => `<form method="post" action="${escape(url)}">${inside}</form>`;
  const submit = (name: string): string => `<input type="submit" name="op" value="${name}">`;
  const reasons = REASONS.map((reason) => `<input type="radio" name="reason" value="${reason}">${reason}`).join('');
  return (
    `<p>Domain ${escape(atomText(childValue(sxp, 'name')) ?? '')}</p>${value(sxp)}` +
    OPERATIONS.map((name) => form(submit(name))).join('') +
    form(`${submit('shutdown')}${reasons}`) +
    form(`${submit('save')} To file: <input type="text" name="file">`) +
    form(`${submit('migrate')} To host: <input type="text" name="destination">`)
  );
}

export const created = (url: string, name: string): string => `<p> Created ${link(url, `Domain ${name}`)}</p>`;

/**
 * qemu-dm's command line as xend of Xen 4.4 writes it (`image.py`, parseDeviceModelArgs), for the machine xenpv: the backends of a
 * PV guest's framebuffer and keyboard.
 */
import { DEFAULT_LAYOUT } from './keymap/layouts.ts';
import { Keymap } from './keymap/keymap.ts';
import type { VncAddress, WebSocketPort } from './rfb/listen.ts';

export interface DeviceModelOptions {
  readonly domid: number;
  readonly name: string;
  /** MiB of the guest's framebuffer; undefined leaves it to the guest. */
  readonly videoramMiB: number | undefined;
  readonly keymap: string;
  /** Undefined with -nographic: the guest draws unseen. */
  readonly vnc: VncOptions | undefined;
}

export interface VncOptions {
  readonly address: VncAddress;
  /** Whether clients are asked for the password that xenstore has. */
  readonly password: boolean;
  readonly webSocket: WebSocketPort;
}

/** Options that take a value, and those that stand alone. The last ones of each are taken and mean nothing here. */
const WITH_VALUE = new Set([
  'd',
  'M',
  'domain-name',
  'vnc',
  'k',
  'videoram',
  'serial',
  'monitor',
  'parallel',
  'm',
  'vcpus',
]);
const ALONE = new Set(['vncunused', 'nographic', 'sdl', 'disable-opengl', 'xen-attach']);

export type CommandLine =
  | { readonly kind: 'xenpv'; readonly options: DeviceModelOptions; readonly warnings: readonly string[] }
  /** Any other machine than xenpv. */
  | { readonly kind: 'otherMachine' }
  | { readonly kind: 'wrong'; readonly reason: string };

const MAX_DOMID = 0x7fef;
const MAX_VIDEORAM_MIB = 64;
const MAX_DISPLAY = 59_635;

/** A value that cannot be; its message is for people. */
class WrongOption extends Error {}

export function parseCommandLine(argv: readonly string[]): CommandLine {
  try {
    const given = split(argv);
    if (given.get('M') !== 'xenpv') return { kind: 'otherMachine' };
    return { kind: 'xenpv', ...optionsOf(given) };
  } catch (error) {
    if (error instanceof WrongOption) return { kind: 'wrong', reason: error.message };
    throw error;
  }
}

function split(argv: readonly string[]): Map<string, string> {
  const given = new Map<string, string>();
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? '';
    const name = word.replace(/^--?/, '');
    if (word.startsWith('-') && ALONE.has(name)) given.set(name, '');
    else if (word.startsWith('-') && WITH_VALUE.has(name)) {
      const value = argv[++i];
      if (value === undefined) throw new WrongOption(`option ${word} wants a value`);
      given.set(name, value);
    } else throw new WrongOption(`invalid option ${word}`);
  }
  return given;
}

function optionsOf(given: ReadonlyMap<string, string>): { options: DeviceModelOptions; warnings: string[] } {
  const domid = numberOf('d', given.get('d') ?? '', MAX_DOMID);
  if (domid === 0) throw new WrongOption('-d 0: Domain-0 has no framebuffer');
  const keymap = given.get('k') ?? DEFAULT_LAYOUT;
  if (!Keymap.names.includes(keymap)) {
    throw new WrongOption(`no keymap '${keymap}'; there are ${Keymap.names.join(', ')}`);
  }
  const videoram = given.get('videoram');
  const vnc = given.get('vnc');
  const options: DeviceModelOptions = {
    domid,
    name: given.get('domain-name') ?? `Domain-${domid}`,
    videoramMiB: videoram === undefined ? undefined : Math.max(1, numberOf('videoram', videoram, MAX_VIDEORAM_MIB)),
    keymap,
    vnc: vnc === undefined || given.has('nographic') ? undefined : parseVnc(vnc, given.has('vncunused')),
  };
  const warnings = given.has('sdl') ? ['-sdl: there is no window here; the screen is to be had by VNC alone'] : [];
  return { options, warnings };
}

/** `HOST:DISPLAY` or `unix:PATH`, then `,password`, `,websocket[=PORT]`. */
function parseVnc(text: string, unused: boolean): VncOptions {
  const [where = '', ...flags] = text.split(',');
  let password = false;
  let webSocket: WebSocketPort;
  for (const flag of flags) {
    const [, port] = /^websocket(?:=(.*))?$/.exec(flag) ?? [];
    if (flag === 'password') password = true;
    else if (flag === 'websocket' || flag === 'websocket=on') webSocket = 'display';
    else if (port !== undefined) webSocket = numberOf('vnc websocket', port, 65_535);
    else throw new WrongOption(`-vnc ${text}: '${flag}' is not supported here`);
  }
  return { address: parseVncAddress(where, unused), password, webSocket };
}

function parseVncAddress(where: string, unused: boolean): VncAddress {
  // xend writes a display behind whatever vnclisten says.
  const unix = /^unix:(\/.*?)(?::\d+)?$/.exec(where)?.[1];
  if (unix !== undefined) return { kind: 'unix', path: unix };
  const [, host = '', display = ''] = /^(.*):(\d+)$/.exec(where) ?? [];
  if (display === '') throw new WrongOption(`-vnc ${where}: not HOST:DISPLAY`);
  return {
    kind: 'tcp',
    host: host.replace(/^\[(.*)\]$/, '$1'),
    display: numberOf('vnc', display, MAX_DISPLAY),
    unused,
  };
}

function numberOf(option: string, text: string, max: number): number {
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value > max)
    throw new WrongOption(`-${option} wants a number up to ${max}, not '${text}'`);
  return value;
}

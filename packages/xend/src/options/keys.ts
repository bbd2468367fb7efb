/**
 * The keys of xend-config.sxp with the defaults of Xen 4.4 (`XendOptions.py`), one row each. Where a default is a path,
 * the host's own folders stand for Xen's. What a value means is for those who use it; config.ts reads the file,
 * servers.ts the list of Xen-API servers.
 */
import { join } from 'node:path';

/** The folders and files that defaults are made of. */
export interface ConfigPlaces {
  /** xend's state: /var/lib/xend. */
  readonly state: string;
  /** /var/log/xen/xend.log */
  readonly logFile: string;
}

interface Bool {
  readonly type: 'bool';
  readonly default: boolean;
}
/** From 0 to `max`. */
interface Int {
  readonly type: 'int';
  readonly default: number;
  readonly max: number;
}
interface Text {
  readonly type: 'text';
  readonly default: string;
}
/** A file or folder; one without a folder of its own lies beside the configuration. Empty: there is none. */
interface Path {
  readonly type: 'path';
  readonly default: (places: ConfigPlaces) => string;
}
export type KeyRow = Bool | Int | Text | Path;

const MAX_PORT = 65535;
/** Keys that count seconds, MiB, KiB or files. */
const MAX_COUNT = 2 ** 31 - 1;

const bool = (value: boolean): Bool => ({ type: 'bool', default: value });
const count = (value: number): Int => ({ type: 'int', default: value, max: MAX_COUNT });
const port = (value: number): Int => ({ type: 'int', default: value, max: MAX_PORT });
const text = (value: string): Text => ({ type: 'text', default: value });
const path = (value: Path['default']): Path => ({ type: 'path', default: value });
const file = path(() => '');
const inState = (name: string): Path => path(({ state }) => join(state, name));

export const KEYS = {
  logfile: path(({ logFile }) => logFile),
  loglevel: text('DEBUG'),
  xsm_module_name: text('dummy'),
  'xend-http-server': bool(false),
  'xend-unix-server': bool(false),
  'xend-tcp-xmlrpc-server': bool(false),
  'xend-unix-xmlrpc-server': bool(true),
  'xend-relocation-server': bool(false),
  'xend-relocation-ssl-server': bool(false),
  'xend-udev-event-server': bool(false),
  'xend-unix-path': inState('xend-socket'),
  'xend-tcp-xmlrpc-server-address': text('localhost'),
  'xend-tcp-xmlrpc-server-port': port(8006),
  'xend-tcp-xmlrpc-server-ssl-key-file': file,
  'xend-tcp-xmlrpc-server-ssl-cert-file': file,
  'xend-port': port(8000),
  'xend-address': text(''),
  'xend-relocation-port': port(8002),
  'xend-relocation-ssl-port': port(8003),
  'xend-relocation-address': text(''),
  'xend-relocation-hosts-allow': text(''),
  'xend-relocation-server-ssl-key-file': file,
  'xend-relocation-server-ssl-cert-file': file,
  'xend-relocation-ssl': bool(false),
  'console-limit': count(1024),
  'network-script': text(''),
  'vif-script': text('vif-bridge'),
  'dom0-min-mem': count(0),
  // Without a row in the file it follows dom0-min-mem, see config.ts.
  'enable-dom0-ballooning': bool(false),
  total_available_memory: count(0),
  'dom0-cpus': count(0),
  'enable-dump': bool(false),
  'external-migration-tool': text(''),
  'vnc-listen': text('127.0.0.1'),
  vncpasswd: text(''),
  'vnc-tls': bool(false),
  'vnc-x509-cert-dir': path(() => 'vnc'),
  'vnc-x509-verify': bool(false),
  keymap: text(''),
  'resource-label-change-script': text(''),
  'qemu-dm-logrotate-count': count(10),
  'xend-domains-path': inState('domains'),
  'xend-state-path': inState('state'),
  'xend-storage-path': inState('storage'),
  'xend-security-path': inState('security'),
  'device-create-timeout': count(100),
  'device-destroy-timeout': count(100),
  'pci-passthrough-strict-check': bool(true),
} as const satisfies Record<string, KeyRow>;

export type Key = keyof typeof KEYS;

interface ValueTypes {
  bool: boolean;
  int: number;
  text: string;
  path: string;
}

/** What every key is, whether the file says so or not. */
export type KeyValues = { readonly [K in Key]: ValueTypes[(typeof KEYS)[K]['type']] };

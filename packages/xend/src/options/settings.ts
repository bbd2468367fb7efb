/** What xend-config.sxp says of xend's own work, and which of its keys say nothing here. */
import type { ScreenSettings } from '../device-model/arguments.ts';
import type { XendSettings } from '../ports.ts';
import type { XendConfig } from './config.ts';
import { KEYS } from './keys.ts';

const BYTES_PER_KIB = 1024;

export function settingsOf(config: XendConfig): XendSettings {
  return {
    enableDump: config['enable-dump'],
    deviceCreateTimeoutMs: config['device-create-timeout'] * 1000,
    deviceDestroyTimeoutMs: config['device-destroy-timeout'] * 1000,
    vifScript: config['vif-script'],
    consoleLimitBytes: config['console-limit'] * BYTES_PER_KIB,
    dom0MinMemMiB: config['dom0-min-mem'],
    dom0Ballooning: config['enable-dom0-ballooning'],
    dom0Vcpus: config['dom0-cpus'],
    relocation: {
      ssl: config['xend-relocation-ssl'],
      port: config['xend-relocation-port'],
      sslPort: config['xend-relocation-ssl-port'],
    },
    screen: screenSettings(config),
  };
}

function screenSettings(config: XendConfig): ScreenSettings {
  const certificates = `x509${config['vnc-x509-verify'] ? 'verify' : ''}=${config['vnc-x509-cert-dir']}`;
  return {
    listen: config['vnc-listen'],
    password: config.vncpasswd,
    keymap: config.keymap,
    tls: config['vnc-tls'] ? `,tls,${certificates}` : '',
  };
}

/** Settings of a xend without a configuration: Xen 4.4's defaults. */
export const DEFAULT_SETTINGS: XendSettings = {
  enableDump: KEYS['enable-dump'].default,
  deviceCreateTimeoutMs: KEYS['device-create-timeout'].default * 1000,
  deviceDestroyTimeoutMs: KEYS['device-destroy-timeout'].default * 1000,
  vifScript: KEYS['vif-script'].default,
  consoleLimitBytes: KEYS['console-limit'].default * BYTES_PER_KIB,
  dom0MinMemMiB: KEYS['dom0-min-mem'].default,
  dom0Ballooning: KEYS['enable-dom0-ballooning'].default,
  dom0Vcpus: KEYS['dom0-cpus'].default,
  relocation: {
    ssl: KEYS['xend-relocation-ssl'].default,
    port: KEYS['xend-relocation-port'].default,
    sslPort: KEYS['xend-relocation-ssl-port'].default,
  },
};

/** What a key that was set would have done on another host. */
const WITHOUT_EFFECT = {
  'network-script': 'is not run: the bridges are those of netback (docs/NETWORK.md)',
  'xend-udev-event-server': 'has nothing to tell: no devices of this host are given to guests',
  'external-migration-tool': 'is not run: xend moves domains itself',
  'resource-label-change-script': 'is not run: there is no security module',
  xsm_module_name: 'is not loaded: there is no security module',
  total_available_memory: 'sets nothing aside: Domain-0 has no memory of its own to keep',
  'pci-passthrough-strict-check': 'checks nothing: no PCI devices are given to guests',
  'xend-security-path': 'stays empty: there is no security module',
} as const;

type Idle = keyof typeof WITHOUT_EFFECT;

/** Lines for the log about keys that the file has set and that do nothing. */
export function idleKeys(config: XendConfig, defaults: XendConfig): string[] {
  return (Object.keys(WITHOUT_EFFECT) as Idle[]).flatMap((key) =>
    config[key] === defaults[key] ? [] : [`${key} ${String(config[key])} ${WITHOUT_EFFECT[key]}`],
  );
}

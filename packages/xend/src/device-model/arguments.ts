/** The command line of a PV domain's device model (Xen 4.4 `image.py`, parseDeviceModelArgs). */
import { atomText } from '@xenhost/sxp';
import type { DeviceConfig, VmConfig } from '../config/types.ts';

/** What xend-config.sxp says of screens. */
export interface ScreenSettings {
  /** vnc-listen, vncpasswd, keymap. */
  readonly listen: string;
  readonly password: string;
  readonly keymap: string;
  /** vnc-tls with vnc-x509-cert-dir and vnc-x509-verify, as the command line has them; empty without. */
  readonly tls: string;
}

export const defaultScreenSettings: ScreenSettings = { listen: '127.0.0.1', password: '', keymap: '', tls: '' };

/** The framebuffer that makes a domain need a device model. */
export const framebufferOf = (config: VmConfig): DeviceConfig | undefined =>
  config.devices.find((device) => device.class === 'vfb');

const DEFAULT_VIDEORAM_MIB = '4';

export interface DeviceModelPlan {
  readonly args: readonly string[];
  /** For clients of its VNC server; empty: nobody is asked. */
  readonly password: string;
  /** The address that it listens on. */
  readonly listen: string;
}

export function planDeviceModel(
  { config, domid }: { readonly config: VmConfig; readonly domid: number },
  vfb: DeviceConfig,
  settings: ScreenSettings,
): DeviceModelPlan {
  const { platform } = config.image;
  const option = (key: string): string => atomText(vfb.options.get(key)) ?? '';
  const isOn = (key: string): boolean => Number(option(key) || '0') !== 0;
  const keymap = option('keymap') || (atomText(platform.get('keymap')) ?? '') || settings.keymap;
  const videoram = option('videoram') || (atomText(platform.get('videoram')) ?? '') || DEFAULT_VIDEORAM_MIB;
  const listen = option('vnclisten') || settings.listen;
  const password = option('vncpasswd') || settings.password;
  const args = ['-d', String(domid), '-domain-name', config.name, '-videoram', videoram];
  if (keymap !== '') args.push('-k', keymap);
  for (const key of ['serial', 'monitor'] as const) if (option(key) !== '') args.push(`-${key}`, option(key));
  if (isOn('vnc')) {
    args.push('-vnc', `${listen}:${option('vncdisplay') || '0'}${password === '' ? '' : ',password'}${settings.tls}`);
    if (option('vncunused') === '' || isOn('vncunused')) args.push('-vncunused');
  }
  if (isOn('sdl')) args.push('-sdl');
  if (!isOn('vnc') && !isOn('sdl')) args.push('-nographic');
  return { args: [...args, '-M', 'xenpv'], password, listen };
}

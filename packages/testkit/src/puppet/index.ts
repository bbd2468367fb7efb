export * from './disk.ts';
export { Puppet, type PuppetDevices } from './guest.ts';
export * from './nic.ts';
export { PuppetRing } from './ring.ts';

export * from './disk.ts';
export { PAGE, Puppet, type PuppetDevices } from './guest.ts';
export * from './nic.ts';
export { PuppetRing } from './ring.ts';

/** The table of xend's own (legacy) methods: all that dispatch, system.* and docs/XEND-API.md know comes from it. */
import { deviceMethods } from './device-methods.ts';
import { domainCpuMethods } from './domain-cpu-methods.ts';
import { domainImageMethods } from './domain-image-methods.ts';
import { domainInternalMethods } from './domain-internal-methods.ts';
import { domainMethods } from './domain-methods.ts';
import type { Method } from './method.ts';
import { nodeMethods } from './node-methods.ts';
import { poolMethods } from './pool-methods.ts';
import { securityMethods } from './security-methods.ts';
import { tmemMethods } from './tmem-methods.ts';

export const legacyMethods: readonly Method[] = [
  ...domainMethods,
  ...domainCpuMethods,
  ...domainImageMethods,
  ...domainInternalMethods,
  ...deviceMethods,
  ...nodeMethods,
  ...tmemMethods,
  ...poolMethods,
  ...securityMethods,
];

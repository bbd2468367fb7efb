/** The table of xend's own (legacy) methods: all that dispatch, system.* and docs/XEND-API.md know comes from it. */
import { deviceMethods } from './device-methods.ts';
import { domainMethods } from './domain-methods.ts';
import type { Method } from './method.ts';
import { nodeMethods } from './node-methods.ts';

export const legacyMethods: readonly Method[] = [...domainMethods, ...deviceMethods, ...nodeMethods];

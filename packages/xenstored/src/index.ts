export { XenstoreCore } from './core/core.ts';
export type { CoreModules, CoreOptions, DomainCondition, DomainGate, IntroducedDomain } from './core/core.ts';
export { DEFAULT_QUOTAS } from './core/limits.ts';
export type { Quotas } from './core/limits.ts';
export { startXenstored } from './daemon.ts';
export type { HypervisorLink, ListedDomain, Xenstored, XenstoredModules, XenstoredOptions } from './daemon.ts';

export { compact, compactEntry } from './compact.ts';
export { Journal } from './journal.ts';
export type { JournalOptions, Recovered } from './journal.ts';
export type { JournalChange } from './record.ts';
export { ringChange, ringStateOf } from './record.ts';

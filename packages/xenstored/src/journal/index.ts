export { compact, compactEntry } from './compact.ts';
export { Journal } from './journal.ts';
export type { JournalOptions, Recovered } from './journal.ts';
export type { SessionChange } from './record.ts';
export { ringChange, ringStateOf, watchRecords } from './record.ts';

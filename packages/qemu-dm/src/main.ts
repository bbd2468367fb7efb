import { refusal } from './refusal.ts';

process.stderr.write(`${refusal(process.argv.slice(2))}\n`);
process.exit(1);

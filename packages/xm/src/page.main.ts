import { writeFileSync } from 'node:fs';
import { xmPage } from './page.ts';

writeFileSync(new URL('../../../docs/XM.md', import.meta.url), xmPage());

/** Entry of `xentrace`. */
import { runTool } from './tool.ts';
import { xentrace } from './xentrace-command.ts';

process.exitCode = await runTool('xentrace', () => xentrace(process.argv.slice(2)));

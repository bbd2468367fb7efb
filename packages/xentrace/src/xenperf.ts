/** Entry of `xenperf`. */
import { runTool } from './tool.ts';
import { xenperf } from './xenperf-command.ts';

process.exitCode = await runTool('xenperf', () => xenperf(process.argv.slice(2)));

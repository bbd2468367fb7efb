/** Entry of `xenprofile`. */
import { runTool } from './tool.ts';
import { xenprofile } from './xenprofile-command.ts';

process.exitCode = await runTool('xenprofile', () => xenprofile(process.argv.slice(2)));

import { guestImages } from '#guest-images/manifest';
import { formatBytes } from '#vmm/record/bytes';
import { newCommand } from './command.ts';
import { printJson, stdout, table } from './output.ts';

export const imagesCommand = () =>
  newCommand('images')
    .description('list the bundled guests and what each proves')
    .addHelpText('before', 'Examples:\n  iommulab images\n  iommulab images --json\n')
    .option('--json', 'as one JSON document')
    .action((options) => {
      if (options.json) return printJson(guestImages);
      const rows = guestImages.map((image) => [image.name, formatBytes(image.bytes), image.proves]);
      stdout.line(table([['NAME', 'SIZE', 'PROVES'], ...rows], [1]));
    });

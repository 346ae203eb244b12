/** Writes through the controller to the image in argv, flushes, says so, and waits to be killed. */
import { fileStorage } from '#devices/backends/storage/file';
import { pattern, ready } from './driver.ts';

const d = ready({ backend: fileStorage(process.argv[2]!) });
const page = d.pages();
d.poke(page, pattern(4096, 77));
d.expectOk({ opcode: 0x01, nsid: 1, prp1: page, cdw: [16, 0, 7] }, 1);
d.expectOk({ opcode: 0x00, nsid: 1 }, 1);
process.stdout.write('flushed\n');
setInterval(() => {}, 1000);

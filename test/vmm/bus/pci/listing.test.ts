import { expect, test } from 'vitest';
import { rid } from '#vmm/base/address';
import { pciListing } from '#vmm/bus/pci/listing';
import { pciMachine, registers, testFunction } from './machine.ts';

test('functions are listed as lspci would', () => {
  const { plug, store, host, port } = pciMachine();
  plug(
    1 << 3,
    testFunction({
      name: 'nvme',
      flr: true,
      bars: [{ index: 0, bytes: 0x4000, kind: 'memory64', device: registers(1) }],
      msix: { vectors: 9, tableBar: 0, tableOffset: 0x2000, pbaBar: 0, pbaOffset: 0x3000 },
    }),
  );
  host.plugRootPort(rid(2 << 3), 'port');
  host.plugBehind(
    rid(2 << 3),
    0,
    testFunction({ name: 'nic', bars: [{ index: 2, bytes: 32, kind: 'io', device: registers(2) }] }),
    port,
  );
  store(1 << 3, 0x10, 0x4000_0000);
  store(1 << 3, 4, 6, 2);
  const unnumbered = pciListing(host.functions());
  expect(unnumbered).toContain('not numbered yet, behind 00:02.0 nic: 1234:abcd (class 010802, rev 3)');
  store(2 << 3, 0x18, 0x0001_0100);
  const lines = pciListing(host.functions());
  expect(lines.slice(0, 4)).toEqual([
    '00:00.0 host-bridge: 1b36:0008 (class 060000, rev 0)',
    '\tCommand: all off',
    '00:01.0 nvme: 1234:abcd (class 010802, rev 3)',
    '\tCommand: memory_space=0x1 bus_master=0x1',
  ]);
  for (const line of [
    '\tBAR 0: memory64, 16 KiB, at 0x40000000',
    '\tCapability [40] Power Management',
    '\t\tmsix_control 0x0008 table_size=0x8',
    '\tBus: primary 0, secondary 1, subordinate 1',
    '01:00.0 nic: 1234:abcd (class 010802, rev 3)',
    '\tBAR 2: io, 32 B, not decoded',
    '\tCapability [100] Access Control Services',
  ])
    expect(lines).toContain(line);
});

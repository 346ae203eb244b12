import type { Clock } from '#vmm/base/clock';
import type { HostMemory } from '#vmm/base/memory';
import type { StaleTranslations } from '#iommufd/host/riscv/stale-translations';
import type { Bridge } from '#viommu/riscv/bridge';
import type { HartGroup } from '../cpu/riscv/hart.ts';
import type { HostSide } from './host-side.ts';
import { layout } from './layout.ts';

/** Where a guest-physical address of RAM lies in host memory. */
const hostAddress = (memory: HostMemory, gpa: number): number => gpa - layout.ram.base + memory.guestBase;

/**
 * `--check stale-translations`: stores of harts to pages with tables are told to the host's IOMMU, and what the vIOMMU
 * reads of the guest's device directory, since an attachment is a cached context too.
 */
export const checkStaleTranslations = (
  host: HostSide,
  memory: HostMemory,
  group: HartGroup,
  clock: Clock,
  guestRid: (hostRid: number) => number | undefined,
): StaleTranslations =>
  host.silicon.checkStaleTranslations({
    now: () => clock.now,
    guestRid,
    watch: (hpa) => {
      if (hpa >= memory.guestBase) group.watchStores(hpa - memory.guestBase + layout.ram.base);
    },
  });

/** What a hart's `onStore` does for the check. */
export const reportStore = (
  check: StaleTranslations,
  memory: HostMemory,
  hart: number,
  gpa: number,
  pc: bigint,
): void => check.stored(hostAddress(memory, gpa), `hart ${hart}`, pc);

/** From now on the guest's own contexts are compared, too. */
export const checkGuestContexts = (
  check: StaleTranslations,
  bridge: Bridge,
  memory: HostMemory,
  hostRid: (deviceId: number) => number | undefined,
): void => {
  bridge.onContext = (deviceId, entries) => {
    const rid = hostRid(deviceId);
    if (rid === undefined) return;
    check.guestContext(
      rid,
      entries?.map(({ level, address, words }) => ({
        table: level === 0 ? 'DC' : 'DDT',
        level,
        gpa: address,
        hpa: BigInt(hostAddress(memory, Number(address))),
        words,
        notes: [],
      })),
    );
  };
};

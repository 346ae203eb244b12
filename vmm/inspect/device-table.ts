import { hex } from '#vmm/base/address';
import { dcTa, dcTc, fsc, iohgatp, iosatpMode, pcTa, pdtpMode } from '#iommufd/arch/riscv/tables';
import { deviceContexts, deviceName, processContexts, tableOwners } from './contexts.ts';
import { ofMachine, type InspectionRow } from './inspection.ts';

const nameOf = (modes: Readonly<Record<string, number>>, mode: bigint): string =>
  Object.entries(modes).find(([, value]) => BigInt(value) === mode)?.[0] ?? `mode ${mode}`;
const root = (modes: Readonly<Record<string, number>>, word: bigint): string => {
  const { MODE, PPN } = fsc.decode(word);
  return MODE === 0n ? 'Bare' : `${nameOf(modes, MODE)} at ${hex(PPN << 12n)}`;
};
/** `EN_ATS PDTV`: the bits that are set, but for V, which all of these have. */
const bits = (described: string): string => described.replace(/\bV=0x1 ?/, '').replaceAll('=0x1', '');

const secondStage = (word: bigint): string => {
  const { MODE, PPN, GSCID } = iohgatp.decode(word);
  if (MODE === 0n) return 'Bare';
  return `${iohgatp.fields.get('MODE')!.values[Number(MODE)] ?? `mode ${MODE}`} at ${hex(PPN << 12n)}, GSCID ${GSCID}`;
};

export const deviceTable = ofMachine({
  doc: 'Device and process contexts in the directories of the guest (viommu) and of the host kernel (host).',
  columns: { unit: 'text', device: 'bdf', name: 'text', pasid: 'text', control: 'text', first_stage: 'text', second_stage: 'text', pscid: 'text', attached: 'text' }, // prettier-ignore
  read: (machine) => {
    const attachments = new Map(machine.assignment.viommu?.bridge.attachments().map((a) => [a.deviceId, a]));
    return tableOwners(machine).flatMap(({ unit, frontEnd, memory }) =>
      deviceContexts(frontEnd, memory).flatMap(({ deviceId, words }): InspectionRow[] => {
        const attached = unit === 'viommu' ? attachments.get(deviceId) : undefined;
        const hasDirectory = dcTc.get(words[0]!, 'PDTV') === 1n;
        const device = { unit, device: deviceId, name: deviceName(machine, deviceId) };
        return [
          {
            ...device,
            pasid: '',
            control: bits(dcTc.describe(words[0]!)),
            first_stage: root(hasDirectory ? pdtpMode : iosatpMode, words[3]!),
            second_stage: secondStage(words[1]!),
            pscid: hasDirectory ? '' : String(dcTa.get(words[2]!, 'PSCID')),
            attached: attached ? `${attached.state}${attached.hwptId === undefined ? '' : ` (hwpt ${attached.hwptId})`}` : '', // prettier-ignore
          },
          ...processContexts(words, memory).map(({ processId, words: [ta, satp] }) => ({
            ...device,
            pasid: String(processId),
            control: bits(pcTa.describe(ta)).replace(/ ?PSCID=\S+/, ''),
            first_stage: root(iosatpMode, satp),
            second_stage: '',
            pscid: String(pcTa.get(ta, 'PSCID')),
            attached: '',
          })),
        ];
      }),
    );
  },
});

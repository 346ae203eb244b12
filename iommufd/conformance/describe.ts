import { errnoName } from '#vmm/base/errno';
import type { Member } from '#vmm/base/wire';
import { ioctls } from '../kernel/ioctls.ts';
import * as selftest from '../uapi/selftest.ts';
import * as vfio from '../uapi/vfio.ts';
import type { CallRecord } from './records.ts';

interface Layout {
  readonly name: string;
  readonly members: readonly Member[];
}

const vfioLayouts: Readonly<Record<string, Layout>> = {
  VFIO_IOMMU_GET_INFO: vfio.vfio_iommu_type1_info,
  VFIO_IOMMU_MAP_DMA: vfio.vfio_iommu_type1_dma_map,
  VFIO_IOMMU_UNMAP_DMA: vfio.vfio_iommu_type1_dma_unmap,
};
/** Alternatives of struct iommu_test_cmd that are not named after their op. */
const testLayouts: Readonly<Record<string, Layout>> = {
  MD_CHECK_MAP: selftest.iommu_test_cmd_check_map,
  MD_CHECK_REFS: selftest.iommu_test_cmd_check_refs,
  MD_CHECK_IOTLB: selftest.iommu_test_cmd_check_iotlb,
  DEV_CHECK_CACHE: selftest.iommu_test_cmd_check_dev_cache,
  PASID_CHECK_HWPT: selftest.iommu_test_cmd_pasid_check,
  SET_TEMP_MEMORY_LIMIT: selftest.iommu_test_cmd_memory_limit,
};

function layoutOf(record: CallRecord): Layout | undefined {
  const { cmd, op } = record;
  if (cmd === 'IOMMU_TEST_CMD' && op)
    return (
      testLayouts[op] ??
      ((selftest as unknown as Record<string, Layout>)[`iommu_test_cmd_${op.toLowerCase()}`] as Layout | undefined)
    );
  return (ioctls as Record<string, { layout: Layout }>)[cmd ?? '']?.layout ?? vfioLayouts[cmd ?? ''];
}

function value(member: Member, bytes: Uint8Array): string {
  if (member.offset + member.bytes > bytes.length) return '(beyond)';
  let number = 0n;
  for (let i = member.bytes - 1; i >= 0; i--) number = (number << 8n) | BigInt(bytes[member.offset + i]!);
  return number < 4096n ? String(number) : `0x${number.toString(16)}`;
}

/** `IOMMU_TEST_CMD(MOCK_DOMAIN)`, `read`, … */
export const callName = (record: CallRecord): string =>
  record.t === 'ioctl' ? `${record.cmd}${record.op ? `(${record.op})` : ''}` : record.t;

/** `0`, or the symbolic errno. */
export const resultName = (ret: number, errno: number): string => (ret < 0 ? errnoName(errno) : String(ret));

/** The fields in which two contents of a structure differ, one line each; bytes where no field is known. */
export function differingFields(record: CallRecord, expected: Uint8Array, actual: Uint8Array): string[] {
  const lines: string[] = [];
  const known = new Uint8Array(expected.length);
  for (const member of layoutOf(record)?.members ?? []) {
    known.fill(1, member.offset, member.offset + member.bytes);
    const [a, b] = [value(member, expected), value(member, actual)];
    if (a !== b) lines.push(`${member.name}: expected ${a}, got ${b}`);
  }
  for (let i = 0; i < expected.length; i++)
    if (!known[i] && expected[i] !== actual[i]) lines.push(`byte ${i}: expected ${expected[i]}, got ${actual[i]}`);
  return lines;
}

/** The fields of a call's structure that are not zero. */
export function describeArguments(record: CallRecord, bytes: Uint8Array): string {
  const parts: string[] = [];
  for (const member of layoutOf(record)?.members ?? []) {
    const text = value(member, bytes);
    if (text !== '0' && text !== '(beyond)' && member.name !== 'size') parts.push(`${member.name}=${text}`);
  }
  return parts.join(' ');
}

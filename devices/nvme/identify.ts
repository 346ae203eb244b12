import { bytes, struct, u16, u32, u64, u8 } from '#vmm/base/wire';
import type { Controller } from './controller.ts';
import { errorLogLast } from './health.ts';
import { blockShifts, type Namespace } from './namespaces.ts';
import type { Command } from './queues.ts';
import { status } from './status.ts';

/** Asynchronous Event Requests kept outstanding, 0-based (AERL). */
export const asyncEventLimit = 3;
export const vendorId = 0x1b36;

/** Identify Controller (NVMe 1.4 §5.15.2.2, figure 247). */
const identifyController = struct('identify_controller', {
  vid: u16, ssvid: u16, sn: bytes(20), mn: bytes(40), fr: bytes(8), rab: u8, ieee: bytes(3), cmic: u8, mdts: u8, cntlid: u16,
  ver: u32, rtd3r: u32, rtd3e: u32, oaes: u32, ctratt: u32, rrls: u16, reserved0: bytes(9), cntrltype: u8, fguid: bytes(16),
  crdt1: u16, crdt2: u16, crdt3: u16, reserved1: bytes(122), oacs: u16, acl: u8, aerl: u8, frmw: u8, lpa: u8, elpe: u8, npss: u8,
  avscc: u8, apsta: u8, wctemp: u16, cctemp: u16, mtfa: u16, hmpre: u32, hmmin: u32, tnvmcap: bytes(16), unvmcap: bytes(16),
  rpmbs: u32, edstt: u16, dsto: u8, fwug: u8, kas: u16, hctma: u16, mntmt: u16, mxtmt: u16, sanicap: u32, hmminds: u32,
  hmmaxd: u16, nsetidmax: u16, endgidmax: u16, anatt: u8, anacap: u8, anagrpmax: u32, nanagrpid: u32, pels: u32,
  reserved2: bytes(156), sqes: u8, cqes: u8, maxcmd: u16, nn: u32, oncs: u16, fuses: u16, fna: u8, vwc: u8, awun: u16, awupf: u16,
  nvscc: u8, nwpc: u8, acwu: u16, reserved3: u16, sgls: u32, mnan: u32, reserved4: bytes(224), subnqn: bytes(256),
  reserved5: bytes(1024), psd0: bytes(32), psds: bytes(992), vs: bytes(1024),
}); // prettier-ignore

/** Identify Namespace (§5.15.2.1, figure 245). */
const identifyNamespace = struct('identify_namespace', {
  nsze: u64, ncap: u64, nuse: u64, nsfeat: u8, nlbaf: u8, flbas: u8, mc: u8, dpc: u8, dps: u8, nmic: u8, rescap: u8, fpi: u8,
  dlfeat: u8, nawun: u16, nawupf: u16, nacwu: u16, nabsn: u16, nabo: u16, nabspf: u16, noiob: u16, nvmcap: bytes(16),
  npwg: u16, npwa: u16, npdg: u16, npda: u16, nows: u16, reserved0: bytes(18), anagrpid: u32, reserved1: bytes(3), nsattr: u8,
  nvmsetid: u16, endgid: u16, nguid: bytes(16), eui64: bytes(8), lbaf: bytes(64), reserved2: bytes(192), vs: bytes(3712),
}); // prettier-ignore

const ascii = (text: string, length: number): Uint8Array => {
  const out = new Uint8Array(length).fill(0x20);
  for (let i = 0; i < Math.min(text.length, length); i++) out[i] = text.charCodeAt(i) & 0x7f;
  return out;
};
const terminated = (text: string, length: number): Uint8Array => {
  const out = new Uint8Array(length);
  for (let i = 0; i < Math.min(text.length, length - 1); i++) out[i] = text.charCodeAt(i) & 0x7f;
  return out;
};
const wide128 = (value: number): Uint8Array => {
  const out = new Uint8Array(16);
  new DataView(out.buffer).setBigUint64(0, BigInt(value), true);
  return out;
};

/** FNV-1a of the serial number: identifiers that differ between disks and stay from run to run. */
const hash = (text: string): number => {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
};
/** EUI-64 in the locally administered space: 52, five bytes of the serial's hash, the namespace. */
const eui64 = (c: Controller, ns: Namespace): Uint8Array => {
  const out = new Uint8Array(8);
  const view = new DataView(out.buffer);
  view.setUint8(0, 0x52);
  view.setUint32(1, hash(c.setup.serial));
  view.setUint16(6, ns.nsid);
  return out;
};
const nguid = (c: Controller, ns: Namespace): Uint8Array => {
  const out = new Uint8Array(16);
  out.set(eui64(c, ns), 8);
  new DataView(out.buffer).setUint32(0, hash(`${c.setup.serial}/guid`));
  out[0] = 0x52;
  return out;
};

const controllerData = (c: Controller): Uint8Array => {
  const psd0 = new Uint8Array(32);
  // Power state 0: 25 W in hundredths, no entry or exit latency worth naming.
  psd0[0] = 2500 & 0xff;
  psd0[1] = 2500 >> 8;
  return identifyController.encode({
    vid: vendorId,
    ssvid: 0x1af4,
    sn: ascii(c.setup.serial, 20),
    mn: ascii(c.setup.model, 40),
    fr: ascii(c.setup.firmware, 8),
    rab: 4,
    ieee: Uint8Array.of(0x00, 0x54, 0x52),
    mdts: c.setup.mdts,
    cntlid: 0,
    ver: 0x1_04_00,
    // Namespace attribute notices.
    oaes: 1 << 8,
    cntrltype: 1,
    // Format NVM.
    oacs: 1 << 1,
    acl: 3,
    aerl: asyncEventLimit,
    // One firmware slot, read-only.
    frmw: 0x03,
    // Commands Supported and Effects; extended data (offset, 32-bit length) for Get Log Page.
    lpa: 0x06,
    elpe: errorLogLast,
    wctemp: 343,
    cctemp: 373,
    tnvmcap: wide128(c.setup.namespaces.reduce((sum, ns) => sum + ns.backend.bytes, 0)),
    sqes: 0x66,
    cqes: 0x44,
    nn: c.setup.namespaces.length,
    // Compare, Dataset Management, Write Zeroes, Save/Select in Features, Timestamp, Verify.
    oncs: 0xdd,
    // A volatile write cache; Flush takes the broadcast NSID.
    vwc: 0x07,
    // SGLs of any alignment, bit buckets, more memory than data.
    sgls: 1 | (1 << 16) | (1 << 18),
    subnqn: terminated(`nqn.2026-01.org.iommulab:nvme:${c.setup.serial}`, 256),
    psd0,
    // Deviation: bit 0 of the first vendor specific byte says that queues can be given a PASID.
    vs: Uint8Array.of(c.setup.areUserQueuesOffered ? 1 : 0),
  });
};
const namespaceData = (c: Controller, ns: Namespace): Uint8Array => {
  const lbaf = new Uint8Array(64);
  blockShifts.forEach((shift, format) => {
    lbaf[format * 4 + 2] = shift;
  });
  const blocks = BigInt(ns.blocks);
  return identifyNamespace.encode({
    nsze: blocks,
    ncap: blocks,
    nuse: blocks,
    nlbaf: blockShifts.length - 1,
    flbas: ns.format,
    // Deallocated blocks read as zeroes; Write Zeroes may deallocate.
    dlfeat: 0x09,
    nvmcap: wide128(ns.backend.bytes),
    nsattr: ns.backend.readOnly ? 1 : 0,
    nguid: nguid(c, ns),
    eui64: eui64(c, ns),
    lbaf,
  });
};

/** Active or allocated namespace list: identifiers above NSID, ascending (§5.15.2.3). */
const namespaceList = (c: Controller, command: Command): Uint8Array | number => {
  if (command.nsid >= 0xffff_fffe) return status.INVALID_NAMESPACE_OR_FORMAT;
  const page = new Uint8Array(4096);
  const view = new DataView(page.buffer);
  c.setup.namespaces
    .filter((ns) => ns.nsid > command.nsid)
    .slice(0, 1024)
    .forEach((ns, i) => view.setUint32(i * 4, ns.nsid, true));
  return page;
};

/** Namespace Identification Descriptor list (§5.15.2.4): EUI-64 and NGUID. */
const descriptors = (c: Controller, command: Command): Uint8Array | number => {
  const ns = c.namespace(command.nsid);
  if (!ns) return status.INVALID_NAMESPACE_OR_FORMAT;
  const page = new Uint8Array(4096);
  page.set([1, 8], 0);
  page.set(eui64(c, ns), 4);
  page.set([2, 16], 12);
  page.set(nguid(c, ns), 16);
  return page;
};

interface StructureRow {
  readonly cns: number;
  readonly spec: string;
  readonly build: (c: Controller, command: Command) => Uint8Array | number;
}
/** What Identify can return, by CNS (§5.15.1, figure 244). */
export const structures = {
  NAMESPACE: {
    cns: 0x00,
    spec: '§5.15.2.1',
    build: (c, command) => {
      const ns = c.namespace(command.nsid);
      return ns ? namespaceData(c, ns) : status.INVALID_NAMESPACE_OR_FORMAT;
    },
  },
  CONTROLLER: { cns: 0x01, spec: '§5.15.2.2', build: controllerData },
  NAMESPACE_LIST: { cns: 0x02, spec: '§5.15.2.3', build: namespaceList },
  NAMESPACE_DESCRIPTORS: { cns: 0x03, spec: '§5.15.2.4', build: descriptors },
} as const satisfies Record<string, StructureRow>;
const byCns = new Map<number, StructureRow>(Object.values(structures).map((row) => [row.cns, row]));

/** Identify (§5.15). */
export const identify = (c: Controller, command: Command): number => {
  const row = byCns.get(command.dw[10]! & 0xff);
  // The controller identifier in 31:16 selects nothing in the structures on offer.
  if (!row) return status.INVALID_FIELD;
  const data = row.build(c, command);
  return typeof data === 'number' ? data : c.send(command, data);
};

/**
 * The registers of the 82574L (datasheet chapter 10): every layout once, and one table offset → register.
 * What is not in the table reads 0 and ignores writes; the device traces it.
 */
import { type FieldSpec, type Register, register } from '#vmm/base/bits';

/** In-place masks of a register's fields as unsigned numbers, for the paths that may not touch bigint. */
const masks = <F extends Record<string, FieldSpec>>(
  layout: Register<F>,
): { readonly [K in keyof F & string]: number } =>
  Object.fromEntries([...layout.fields.keys()].map((name) => [name, Number(layout.mask(name))])) as never;

/** Bytes of the register region (BAR 0). */
export const registerBytes = 0x20000;

// prettier-ignore
const ctrl = register({ width: 32, spec: '82574 §10.2.2.1', fields: {
  FD: { bits: 0 }, GIO_MASTER_DISABLE: { bits: 2 }, LRST: { bits: 3 }, ASDE: { bits: 5 }, SLU: { bits: 6 }, ILOS: { bits: 7 },
  SPEED: { bits: [9, 8] }, FRCSPD: { bits: 11 }, FRCDPX: { bits: 12 }, SWDPIN0: { bits: 18 }, SWDPIN1: { bits: 19 },
  ADVD3WUC: { bits: 20 }, EN_PHY_PWR_MGMT: { bits: 21 }, SWDPIO0: { bits: 22 }, SWDPIO1: { bits: 23 },
  RST: { bits: 26, doc: 'self-clearing' }, RFCE: { bits: 27 }, TFCE: { bits: 28 }, VME: { bits: 30 }, PHY_RST: { bits: 31 } } });
// prettier-ignore
const status = register({ width: 32, spec: '82574 §10.2.2.2', fields: {
  FD: { bits: 0, access: 'ro' }, LU: { bits: 1, access: 'ro' }, LAN_ID: { bits: [3, 2], access: 'ro' }, TXOFF: { bits: 4, access: 'ro' },
  SPEED: { bits: [7, 6], access: 'ro', values: { 0: '10', 1: '100', 2: '1000', 3: '1000' } }, ASDV: { bits: [9, 8], access: 'ro' },
  PHYRA: { bits: 10, access: 'warl', doc: 'write 0 to clear' }, GIO_MASTER_ENABLE: { bits: 19, access: 'ro' } } });
// prettier-ignore
const eecd = register({ width: 32, spec: '82574 §10.2.2.3', fields: {
  SK: { bits: 0 }, CS: { bits: 1 }, DI: { bits: 2 }, DO: { bits: 3, access: 'ro' }, FWE: { bits: [5, 4] }, REQ: { bits: 6 },
  GNT: { bits: 7, access: 'ro' }, PRES: { bits: 8, access: 'ro' }, AUTO_RD: { bits: 9, access: 'ro' }, ADDR_BITS: { bits: 10, access: 'ro' },
  SIZE_EX: { bits: [14, 11], access: 'ro' }, NVADDS: { bits: [16, 15], access: 'ro' }, SELSHAD: { bits: 17 }, INITSRAM: { bits: 18 },
  FLUPD: { bits: 19 }, AUPDEN: { bits: 20 }, SHADV: { bits: 21 }, SEC1VAL: { bits: 22 } } });
// prettier-ignore
const eerd = register({ width: 32, spec: '82574 §10.2.2.4', fields: {
  START: { bits: 0 }, DONE: { bits: 1, access: 'ro' }, ADDR: { bits: [15, 2] }, DATA: { bits: [31, 16], access: 'warl' } } });
// prettier-ignore
const ctrlExt = register({ width: 32, spec: '82574 §10.2.2.5', fields: {
  ASDCHK: { bits: 12 }, EE_RST: { bits: 13 }, SPD_BYPS: { bits: 15 }, RO_DIS: { bits: 17 }, DMA_DYN_CLK_EN: { bits: 19 },
  PHYPDEN: { bits: 20 }, TX_LS_FLOW: { bits: 21 }, LINK_MODE: { bits: [23, 22] }, EIAME: { bits: 24 }, IAME: { bits: 27 },
  DRV_LOAD: { bits: 28 }, INT_TIMERS_CLEAR_ENA: { bits: 29 }, PBA_SUPPORT: { bits: 31 } } });
// prettier-ignore
const mdic = register({ width: 32, spec: '82574 §10.2.2.7', fields: {
  DATA: { bits: [15, 0] }, REGADD: { bits: [20, 16] }, PHYADD: { bits: [25, 21] }, OP: { bits: [27, 26], values: { 1: 'write', 2: 'read' } },
  R: { bits: 28 }, I: { bits: 29 }, E: { bits: 30, access: 'ro' } } });

// prettier-ignore
const causeFields = {
  TXDW: { bits: 0 }, TXQE: { bits: 1 }, LSC: { bits: 2 }, RXSEQ: { bits: 3 }, RXDMT0: { bits: 4 }, RXO: { bits: 6 }, RXT0: { bits: 7 },
  MDAC: { bits: 9 }, PHYINT: { bits: 12 }, TXD_LOW: { bits: 15 }, SRPD: { bits: 16 }, ACK: { bits: 17 }, MNG: { bits: 18 },
  RXQ0: { bits: 20 }, RXQ1: { bits: 21 }, TXQ0: { bits: 22 }, TXQ1: { bits: 23 }, OTHER: { bits: 24 },
} as const;
const w1c = Object.fromEntries(
  Object.entries(causeFields).map(([name, field]) => [name, { ...field, access: 'w1c' }]),
) as Record<keyof typeof causeFields, FieldSpec>;
const icr = register({
  width: 32,
  spec: '82574 §10.2.4.1',
  fields: { ...w1c, INT_ASSERTED: { bits: 31, access: 'ro' } },
});
const causeMask = register({ width: 32, spec: '82574 §10.2.4', fields: causeFields });
// prettier-ignore
const eiac = register({ width: 32, spec: '82574 §10.2.4.7', fields: {
  RXQ0: { bits: 20 }, RXQ1: { bits: 21 }, TXQ0: { bits: 22 }, TXQ1: { bits: 23 }, OTHER: { bits: 24 } } });
const interval = register({ width: 32, spec: '82574 §10.2.4.2', fields: { INTERVAL: { bits: [15, 0] } } });
// prettier-ignore
const ivar = register({ width: 32, spec: '82574 §10.2.4.9', fields: {
  RXQ0: { bits: [3, 0] }, RXQ1: { bits: [7, 4] }, TXQ0: { bits: [11, 8] }, TXQ1: { bits: [15, 12] }, OTHER: { bits: [19, 16] },
  TX_INT_EVERY_WB: { bits: 31 } } });

// prettier-ignore
const rctl = register({ width: 32, spec: '82574 §10.2.5.1', fields: {
  EN: { bits: 1 }, SBP: { bits: 2 }, UPE: { bits: 3 }, MPE: { bits: 4 }, LPE: { bits: 5 }, LBM: { bits: [7, 6], values: { 1: 'mac' } },
  RDMTS: { bits: [9, 8], values: { 0: '1/2', 1: '1/4', 2: '1/8' } }, DTYP: { bits: [11, 10], values: { 0: 'legacy', 1: 'packet split' } },
  MO: { bits: [13, 12] }, BAM: { bits: 15 }, BSIZE: { bits: [17, 16] }, VFE: { bits: 18 }, CFIEN: { bits: 19 }, CFI: { bits: 20 },
  DPF: { bits: 22 }, PMCF: { bits: 23 }, BSEX: { bits: 25 }, SECRC: { bits: 26 }, FLXBUF: { bits: [30, 27] } } });
// prettier-ignore
const psrctl = register({ width: 32, spec: '82574 §10.2.5.4', fields: {
  BSIZE0: { bits: [6, 0] }, BSIZE1: { bits: [13, 8] }, BSIZE2: { bits: [21, 16] }, BSIZE3: { bits: [29, 24] } } });
// prettier-ignore
const rxcsum = register({ width: 32, spec: '82574 §10.2.5.15', fields: {
  PCSS: { bits: [7, 0] }, IPOFLD: { bits: 8 }, TUOFLD: { bits: 9 }, CRCOFL: { bits: 11 }, IPPCSE: { bits: 12 }, PCSD: { bits: 13 } } });
// prettier-ignore
const rfctl = register({ width: 32, spec: '82574 §10.2.5.16', fields: {
  ISCSI_DIS: { bits: 0 }, ISCSI_DWC: { bits: [5, 1] }, NFSW_DIS: { bits: 6 }, NFSR_DIS: { bits: 7 }, NFS_VER: { bits: [9, 8] },
  IPV6_DIS: { bits: 10 }, IPV6_XSUM_DIS: { bits: 11 }, ACK_DIS: { bits: 12 }, ACK_DATA_DIS: { bits: 13 }, IPFRSP_DIS: { bits: 14 },
  EXTEN: { bits: 15 }, IPV6_EX_DIS: { bits: 16 }, NEW_IPV6_EXT_DIS: { bits: 17 } } });
// prettier-ignore
const mrqc = register({ width: 32, spec: '82574 §10.2.5.20', fields: {
  ENABLE: { bits: [1, 0], values: { 1: 'RSS' } }, TCP_IPV4: { bits: 16 }, IPV4: { bits: 17 }, TCP_IPV6_EX: { bits: 18 }, IPV6_EX: { bits: 19 },
  IPV6: { bits: 20 }, TCP_IPV6: { bits: 21 } } });
const rah = register({
  width: 32,
  spec: '82574 §10.2.5.18',
  fields: { ADDR: { bits: [15, 0] }, ASEL: { bits: [17, 16] }, AV: { bits: 31 } },
});
const rxdctl = register({
  width: 32,
  spec: '82574 §10.2.5.13',
  fields: { PTHRESH: { bits: [5, 0] }, HTHRESH: { bits: [13, 8] }, WTHRESH: { bits: [21, 16] }, GRAN: { bits: 24 } },
});
const delay = register({
  width: 32,
  spec: '82574 §10.2.5.11',
  fields: { DELAY: { bits: [15, 0] }, FPD: { bits: 31, access: 'wo' } },
});
const tctl = register({
  width: 32,
  spec: '82574 §10.2.6.1',
  // prettier-ignore
  fields: { EN: { bits: 1 }, PSP: { bits: 3 }, CT: { bits: [11, 4] }, COLD: { bits: [21, 12] }, SWXOFF: { bits: 22 }, PBE: { bits: 23 },
    RTLC: { bits: 24 }, UNORTX: { bits: 25 }, TXDSCMT: { bits: [27, 26] }, MULR: { bits: 28 }, RRTHRESH: { bits: [30, 29] } },
});
const txdctl = register({
  width: 32,
  spec: '82574 §10.2.6.10',
  // prettier-ignore
  fields: { PTHRESH: { bits: [5, 0] }, HTHRESH: { bits: [13, 8] }, WTHRESH: { bits: [21, 16] }, COUNT_DESC: { bits: 22 }, GRAN: { bits: 24 }, LWTHRESH: { bits: [31, 25] } },
});
const tarc = register({
  width: 32,
  spec: '82574 §10.2.6.12',
  // prettier-ignore
  fields: { COUNT: { bits: [6, 0] }, COMP: { bits: 7 }, RATIO: { bits: [9, 8] }, ENABLE: { bits: 10 }, CB_FIX: { bits: [30, 27] } },
});
/**
 * Deviation: a register that the part does not have. With `EN`, everything that the ring does in memory carries the PASID,
 * so that a process can own the ring; without the function's PASID capability enabled such a ring stands still.
 */
const queuePasid = register({
  width: 32,
  spec: 'vendor extension',
  fields: { PASID: { bits: [19, 0] }, EN: { bits: 31 } },
});
const swsm = register({
  width: 32,
  spec: '82574 §10.2.8.12',
  fields: { SMBI: { bits: 0 }, SWESMBI: { bits: 1 }, DRV_LOAD: { bits: 3 } },
});
const ringLow = register({ width: 32, spec: '82574 §10.2.5.5', fields: { BASE: { bits: [31, 4] } } });
const ringLength = register({ width: 32, spec: '82574 §10.2.5.7', fields: { LEN: { bits: [19, 7] } } });
const ringIndex = register({ width: 32, spec: '82574 §10.2.5.8', fields: { INDEX: { bits: [15, 0] } } });
const plain = register({ width: 32, spec: '82574 §10', fields: { VALUE: { bits: [31, 0] } } });
/** A register of nothing but its low bits. */
const low = (width: number): Register =>
  register({ width: 32, spec: '82574 §10', fields: { VALUE: { bits: [width - 1, 0] } } }) as Register;
const threshold = register({
  width: 32,
  spec: '82574 §10.2.5.2',
  fields: { LEVEL: { bits: [15, 3] }, XONE: { bits: 31 } },
});
const highThreshold = register({ width: 32, spec: '82574 §10.2.5.3', fields: { LEVEL: { bits: [15, 3] } } });
const gcr = register({
  width: 32,
  spec: '82574 §10.2.8.1',
  // prettier-ignore
  fields: { LOW: { bits: [22, 0] }, L1_LATENCY_MSB: { bits: 23, access: 'ro' }, RESERVED: { bits: 24 }, L1_LATENCY: { bits: [26, 25], access: 'ro' }, HIGH: { bits: [31, 27] } },
});
const readOnly = register({ width: 32, spec: '82574 §10', fields: { VALUE: { bits: [31, 0], access: 'ro' } } });
/** Statistics count up, stop at their maximum and are cleared by the read. */
const counter = register({ width: 32, spec: '82574 §10.2.7', fields: { COUNT: { bits: [31, 0], access: 'ro' } } });

export const CTRL = masks(ctrl);
export const STATUS = masks(status);
export const EERD = masks(eerd);
export const CTRL_EXT = masks(ctrlExt);
export const MDIC = masks(mdic);
export const ICR = masks(icr);
export const EIAC = masks(eiac);
export const IVAR = masks(ivar);
export const RCTL = masks(rctl);
export const RXCSUM = masks(rxcsum);
export const RFCTL = masks(rfctl);
export const MRQC = masks(mrqc);
export const RAH = masks(rah);
export const TCTL = masks(tctl);
export const TARC = masks(tarc);
export const TXDCTL = masks(txdctl);
export const SWSM = masks(swsm);
export const QUEUE_PASID = masks(queuePasid);

export interface RegisterRow {
  /** Byte offset of the (first) register. */
  readonly offset: number;
  /** Length of an array of registers, and the bytes from one to the next. Default 1. */
  readonly count?: number;
  readonly stride?: number;
  readonly layout: Register;
  /** Value after reset. Default 0. */
  readonly reset?: number;
  /** Offset at which 8254x drivers find it too (§10.1.1.5). */
  readonly alias?: number;
  /** Offset in the queue's user page (see `userPages`). */
  readonly userPage?: number;
  /** A statistics counter: cleared by the read. */
  readonly clears?: true;
}

const row = <const R extends Omit<RegisterRow, 'layout'>>(layout: unknown, r: R): R & { layout: Register } => ({
  ...r,
  layout: layout as Register,
});
const stat = (offset: number): RegisterRow => ({ ...row(counter, { offset }), clears: true });

/** THE table. Defaults are those the datasheet and the part's NVM give. */
// prettier-ignore
export const registers = {
  CTRL: row(ctrl, { offset: 0x0000, reset: 0x0014_0241, alias: 0x0004 }),
  STATUS: row(status, { offset: 0x0008, reset: 0 }),
  EECD: row(eecd, { offset: 0x0010, reset: 0x0000_0300 }),
  EERD: row(eerd, { offset: 0x0014, reset: 2 }),
  CTRL_EXT: row(ctrlExt, { offset: 0x0018 }),
  FLA: row(plain, { offset: 0x001c }),
  MDIC: row(mdic, { offset: 0x0020, reset: 0x1000_0000 }),
  FCAL: row(plain, { offset: 0x0028 }),
  FCAH: row(low(16), { offset: 0x002c }),
  FCT: row(low(16), { offset: 0x0030 }),
  VET: row(low(16), { offset: 0x0038, reset: 0x8100 }),
  ICR: row(icr, { offset: 0x00c0 }),
  ITR: row(interval, { offset: 0x00c4 }),
  ICS: row(causeMask, { offset: 0x00c8 }),
  IMS: row(causeMask, { offset: 0x00d0 }),
  IMC: row(causeMask, { offset: 0x00d8 }),
  EIAC: row(eiac, { offset: 0x00dc }),
  IAM: row(plain, { offset: 0x00e0 }),
  IVAR: row(ivar, { offset: 0x00e4 }),
  EITR: row(interval, { offset: 0x00e8, count: 5, stride: 4 }),
  // Not of this part, but Linux's driver reads it of every part.
  LPIC: row(plain, { offset: 0x00fc }),
  RCTL: row(rctl, { offset: 0x0100 }),
  FCTTV: row(low(16), { offset: 0x0170 }),
  TCTL: row(tctl, { offset: 0x0400 }),
  TIPG: row(plain, { offset: 0x0410, reset: 0x0060_2008 }),
  AIT: row(low(16), { offset: 0x0458 }),
  LEDCTL: row(plain, { offset: 0x0e00, reset: 0x0006_8302 }),
  EXTCNF_CTRL: row(plain, { offset: 0x0f00, reset: 8 }),
  EXTCNF_SIZE: row(plain, { offset: 0x0f08 }),
  POEMB: row(plain, { offset: 0x0f10, reset: 0x30d }),
  PBA: row(plain, { offset: 0x1000, reset: 0x0014_0014 }),
  PBS: row(low(6), { offset: 0x1008, reset: 0x28 }),
  EEMNGCTL: row(plain, { offset: 0x1010, reset: 0x8004_0000 }),
  EEWR: row(eerd, { offset: 0x102c, reset: 2 }),
  FLSWCTL: row(plain, { offset: 0x1030, reset: 0xc000_0000 }),
  FLOP: row(plain, { offset: 0x103c }),
  PBA_ECC: row(plain, { offset: 0x1100 }),
  ERT: row(plain, { offset: 0x2008 }),
  FCRTL: row(threshold, { offset: 0x2160, alias: 0x0168 }),
  FCRTH: row(highThreshold, { offset: 0x2168, alias: 0x0160 }),
  PSRCTL: row(psrctl, { offset: 0x2170, reset: 0x0004_0402 }),
  RDFH: row(low(13), { offset: 0x2410, alias: 0x8000 }),
  RDFT: row(low(13), { offset: 0x2418, alias: 0x8008 }),
  RDFHS: row(low(13), { offset: 0x2420 }),
  RDFTS: row(low(13), { offset: 0x2428 }),
  RDFPC: row(low(13), { offset: 0x2430 }),
  RDBAL: row(ringLow, { offset: 0x2800, count: 2, stride: 0x100, alias: 0x0110 }),
  RDBAH: row(plain, { offset: 0x2804, count: 2, stride: 0x100, alias: 0x0114 }),
  RDLEN: row(ringLength, { offset: 0x2808, count: 2, stride: 0x100, alias: 0x0118 }),
  RDH: row(ringIndex, { offset: 0x2810, count: 2, stride: 0x100, alias: 0x0120, userPage: 0x00 }),
  RDT: row(ringIndex, { offset: 0x2818, count: 2, stride: 0x100, alias: 0x0128, userPage: 0x08 }),
  RDTR: row(delay, { offset: 0x2820, alias: 0x0108 }),
  RXDCTL: row(rxdctl, { offset: 0x2828, count: 2, stride: 0x100, reset: 0x0001_0000 }),
  RADV: row(low(16), { offset: 0x282c }),
  RSRPD: row(low(12), { offset: 0x2c00 }),
  RAID: row(low(16), { offset: 0x2c08 }),
  TDFH: row(low(13), { offset: 0x3410, reset: 0x600, alias: 0x8010 }),
  TDFT: row(low(13), { offset: 0x3418, reset: 0x600, alias: 0x8018 }),
  TDFHS: row(low(13), { offset: 0x3420, reset: 0x600 }),
  TDFTS: row(low(13), { offset: 0x3428, reset: 0x600 }),
  TDFPC: row(low(13), { offset: 0x3430 }),
  TDBAL: row(ringLow, { offset: 0x3800, count: 2, stride: 0x100, alias: 0x0420 }),
  TDBAH: row(plain, { offset: 0x3804, count: 2, stride: 0x100, alias: 0x0424 }),
  TDLEN: row(ringLength, { offset: 0x3808, count: 2, stride: 0x100, alias: 0x0428 }),
  TDH: row(ringIndex, { offset: 0x3810, count: 2, stride: 0x100, alias: 0x0430, userPage: 0x10 }),
  TDT: row(ringIndex, { offset: 0x3818, count: 2, stride: 0x100, alias: 0x0438, userPage: 0x18 }),
  TIDV: row(delay, { offset: 0x3820, alias: 0x0440 }),
  TXDCTL: row(txdctl, { offset: 0x3828, count: 2, stride: 0x100 }),
  TADV: row(low(16), { offset: 0x382c }),
  TARC: row(tarc, { offset: 0x3840, count: 2, stride: 0x100, reset: 0x403 }),
  CRCERRS: stat(0x4000), ALGNERRC: stat(0x4004), SYMERRS: stat(0x4008), RXERRC: stat(0x400c), MPC: stat(0x4010), SCC: stat(0x4014),
  ECOL: stat(0x4018), MCC: stat(0x401c), LATECOL: stat(0x4020), COLC: stat(0x4028), DC: stat(0x4030), TNCRS: stat(0x4034),
  SEC: stat(0x4038), CEXTERR: stat(0x403c), RLEC: stat(0x4040), XONRXC: stat(0x4048), XONTXC: stat(0x404c), XOFFRXC: stat(0x4050),
  XOFFTXC: stat(0x4054), FCRUC: stat(0x4058), PRC64: stat(0x405c), PRC127: stat(0x4060), PRC255: stat(0x4064), PRC511: stat(0x4068),
  PRC1023: stat(0x406c), PRC1522: stat(0x4070), GPRC: stat(0x4074), BPRC: stat(0x4078), MPRC: stat(0x407c), GPTC: stat(0x4080),
  GORCL: row(counter, { offset: 0x4088 }), GORCH: row(counter, { offset: 0x408c }),
  GOTCL: row(counter, { offset: 0x4090 }), GOTCH: row(counter, { offset: 0x4094 }),
  RNBC: stat(0x40a0), RUC: stat(0x40a4), RFC: stat(0x40a8), ROC: stat(0x40ac), RJC: stat(0x40b0), MGTPRC: stat(0x40b4),
  MGTPDC: stat(0x40b8), MGTPTC: stat(0x40bc),
  TORL: row(counter, { offset: 0x40c0 }), TORH: row(counter, { offset: 0x40c4 }),
  TOTL: row(counter, { offset: 0x40c8 }), TOTH: row(counter, { offset: 0x40cc }),
  TPR: stat(0x40d0), TPT: stat(0x40d4), PTC64: stat(0x40d8), PTC127: stat(0x40dc), PTC255: stat(0x40e0), PTC511: stat(0x40e4),
  PTC1023: stat(0x40e8), PTC1522: stat(0x40ec), MPTC: stat(0x40f0), BPTC: stat(0x40f4), TSCTC: stat(0x40f8), TSCTFC: stat(0x40fc),
  IAC: stat(0x4100), ICRXPTC: stat(0x4104), ICRXATC: stat(0x4108), ICTXPTC: stat(0x410c), ICTXATC: stat(0x4110), ICTXQEC: stat(0x4118),
  ICTXQMTC: stat(0x411c), ICRXDMTC: stat(0x4120), ICRXOC: stat(0x4124),
  RXCSUM: row(rxcsum, { offset: 0x5000, reset: 0x300 }),
  RFCTL: row(rfctl, { offset: 0x5008 }),
  MAVTV: row(plain, { offset: 0x5010, count: 4, stride: 4 }),
  MTA: row(plain, { offset: 0x5200, count: 128, stride: 4 }),
  RAL: row(plain, { offset: 0x5400, count: 16, stride: 8, alias: 0x0040 }),
  RAH: row(rah, { offset: 0x5404, count: 16, stride: 8, alias: 0x0044 }),
  VFTA: row(plain, { offset: 0x5600, count: 128, stride: 4, alias: 0x0600 }),
  WUC: row(plain, { offset: 0x5800 }),
  WUFC: row(plain, { offset: 0x5808 }),
  WUS: row(plain, { offset: 0x5810 }),
  MRQC: row(mrqc, { offset: 0x5818 }),
  MANC: row(plain, { offset: 0x5820, reset: 0x1000_0000 }),
  MFVAL: row(plain, { offset: 0x5824 }),
  IPAV: row(plain, { offset: 0x5838 }),
  IP4AT: row(plain, { offset: 0x5840, count: 7, stride: 4 }),
  MANC2H: row(plain, { offset: 0x5860 }),
  IP6AT: row(plain, { offset: 0x5880, count: 4, stride: 4 }),
  MDEF: row(plain, { offset: 0x5890, count: 8, stride: 4 }),
  WUPM: row(plain, { offset: 0x5a00, count: 32, stride: 4 }),
  GCR: row(gcr, { offset: 0x5b00, reset: 0x0680_0200 }),
  FUNCTAG: row(plain, { offset: 0x5b08 }),
  GSCL: row(plain, { offset: 0x5b10, count: 4, stride: 4 }),
  GSCN: row(plain, { offset: 0x5b20, count: 4, stride: 4 }),
  FACTPS: row(plain, { offset: 0x5b30, reset: 0x2000_0004 }),
  SWSM: row(swsm, { offset: 0x5b50 }),
  FWSM: row(readOnly, { offset: 0x5b54 }),
  SWSM2: row(plain, { offset: 0x5b58 }),
  SW_FW_SYNC: row(plain, { offset: 0x5b5c }),
  GCR2: row(plain, { offset: 0x5b64 }),
  PBACLR: row(low(5), { offset: 0x5b68 }),
  RETA: row(plain, { offset: 0x5c00, count: 32, stride: 4 }),
  RSSRK: row(plain, { offset: 0x5c80, count: 10, stride: 4 }),
  FFLT: row(low(11), { offset: 0x5f00, count: 4, stride: 8 }),
  FFMT: row(low(4), { offset: 0x9000, count: 128, stride: 8 }),
  FTFT: row(plain, { offset: 0x9400, count: 128, stride: 8 }),
  FFVT: row(plain, { offset: 0x9800, count: 128, stride: 8 }),
  SYSTIML: row(plain, { offset: 0xb600 }),
  SYSTIMH: row(plain, { offset: 0xb604 }),
  TIMINCA: row(plain, { offset: 0xb608 }),
  TIMADJL: row(plain, { offset: 0xb60c }),
  TIMADJH: row(plain, { offset: 0xb610 }),
  TSYNCTXCTL: row(plain, { offset: 0xb614 }),
  TXSTMPL: row(plain, { offset: 0xb618 }),
  TXSTMPH: row(plain, { offset: 0xb61c }),
  TSYNCRXCTL: row(plain, { offset: 0xb620 }),
  RXSTMPL: row(plain, { offset: 0xb624 }),
  RXSTMPH: row(plain, { offset: 0xb628 }),
  RXSATRL: row(plain, { offset: 0xb62c }),
  RXSATRH: row(plain, { offset: 0xb630 }),
  RXPASID: row(queuePasid, { offset: 0xbe00, count: 2, stride: 0x100 }),
  TXPASID: row(queuePasid, { offset: 0xbe04, count: 2, stride: 0x100 }),
  RXCFGL: row(plain, { offset: 0xb634, reset: 0x88f7 }),
  RXUDP: row(plain, { offset: 0xb638, reset: 0x319 }),
} as const satisfies Record<string, RegisterRow>;
export type RegisterName = keyof typeof registers;
export const registerNames = Object.keys(registers) as RegisterName[];

/** Word index (offset / 4) of each register, or of the first of an array. */
export const at = Object.fromEntries(registerNames.map((name) => [name, registers[name].offset >>> 2])) as {
  readonly [K in RegisterName]: number;
};
/**
 * Deviation: two pages at the end of the region that hold the heads and tails of one queue each, to be mapped into the
 * process that owns the queue.
 */
export const userPages = 0x1_e000;
export const userPageBytes = 0x1000;
/** Word distance between the registers of queue 0 and queue 1. */
export const queueStride = 0x40;

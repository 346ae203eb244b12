/** Descriptor layouts (§7.1.4 … §7.1.6 receive, §7.2.5 … §7.2.7 transmit): all little-endian, 16 bytes but for packet split. */
import { bytes, struct, u16, u32, u64, u8 } from '#vmm/base/wire';

export const descriptorBytes = 16;

/** RFCTL.EXTEN = 0, as software reads it (§7.1.4). */
export const rxLegacy = struct('rx_legacy', { buffer: u64, length: u16, checksum: u16, status: u8, errors: u8, special: u16 }); // prettier-ignore
/** RFCTL.EXTEN = 1, after write-back (§7.1.5.2); before it, the buffer address and 8 reserved bytes. */
export const rxExtended = struct('rx_extended', { mrq: u32, rss: u32, status_error: u32, length: u16, vlan: u16 }); // prettier-ignore
/** RCTL.DTYP = 1, after write-back (§7.1.6.2); before it, four buffer addresses. */
export const rxSplit = struct('rx_split', { mrq: u32, rss: u32, status_error: u32, length0: u16, vlan: u16, header_status: u16, length1: u16, length2: u16, length3: u16, reserved: bytes(8) }); // prettier-ignore

/** §7.2.5. `lower` = length 15:0, CSO 23:16, CMD 31:24. `upper` = STA 3:0, ExtCMD 7:4, CSS 15:8, special 31:16. */
export const txLegacy = struct('tx_legacy', { buffer: u64, lower: u32, upper: u32 });
/** §7.2.6. `command` = PAYLEN 19:0, DTYP 23:20, TUCMD 31:24. */
export const txContext = struct('tx_context', { ipcss: u8, ipcso: u8, ipcse: u16, tucss: u8, tucso: u8, tucse: u16, command: u32, status: u8, hdrlen: u8, mss: u16 }); // prettier-ignore
/** §7.2.7. `lower` = DTALEN 19:0, DTYP 23:20, DCMD 31:24. `upper` = STA 3:0, POPTS 15:8, special 31:16. */
export const txData = struct('tx_data', { buffer: u64, lower: u32, upper: u32 });

/** Bits of `lower` common to the three transmit kinds; TSE only in data, IC only in legacy descriptors. */
// prettier-ignore
export const TXD = {
  DTYP_DATA: 0x0010_0000, EOP: 0x0100_0000, IC: 0x0400_0000, TSE: 0x0400_0000, RS: 0x0800_0000,
  DEXT: 0x2000_0000, VLE: 0x4000_0000, IDE: 0x8000_0000,
  /** In a context descriptor's command. */
  TUCMD_TCP: 0x0100_0000, TUCMD_IPV4: 0x0200_0000,
  /** In the upper word of a data descriptor. */
  POPTS_IXSM: 0x100, POPTS_TXSM: 0x200,
} as const;
export const txStatusOffset = txLegacy.offset('upper');
export const statusDone = 1;

/** Status in the low, errors in the high byte of the extended status/error word (§7.1.5.2.3). */
// prettier-ignore
export const RXD = {
  DD: 0x1, EOP: 0x2, IXSM: 0x4, VP: 0x8, UDPCS: 0x10, TCPCS: 0x20, IPCS: 0x40, PIF: 0x80, IPIDV: 0x200, UDPV: 0x400, ACK: 0x8000,
  TCPE: 0x2000_0000, IPE: 0x4000_0000, RXE: 0x8000_0000,
  /** Packet type, bits 19:16. */
  TYPE_MAC: 0x0_0000, TYPE_IPV4: 0x1_0000, TYPE_IPV4_L4: 0x2_0000, TYPE_IPV6: 0x5_0000, TYPE_IPV6_L4: 0x6_0000,
  HEADER_SPLIT: 0x8000,
} as const;

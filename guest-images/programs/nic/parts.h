// The parts of the program, in the order in which they run.
#pragma once
#include "nic.h"

#define CTRL 0x0000
#define STATUS 0x0008
#define MDIC 0x0020
#define ICR 0x00c0
#define IMS 0x00d0
#define EITR0 0x00e8
#define RCTL 0x0100
#define RDBAL1 0x2900
#define RDBAH1 0x2904
#define RDLEN1 0x2908
#define RDH1 0x2910
#define RDT1 0x2918
#define TDBAL1 0x3900
#define TDBAH1 0x3904
#define TDLEN1 0x3908
#define TDH1 0x3910
#define TDT1 0x3918
#define RXCSUM 0x5000
#define RFCTL 0x5008
#define MTA 0x5200
#define VFTA 0x5600
#define MRQC 0x5818
#define RETA 0x5c00
#define RSSRK 0x5c80

extern struct nic a, b;
/// QEMU's model, which differs in places.
extern bool is_qemu;

u32 get(const struct nic *nic, u32 offset);
void set(const struct nic *nic, u32 offset, u32 value);

/// Writes an IPv4 frame with TCP and `payload` bytes, checksums zero but for the pseudo header's sum in the TCP field
/// (without its length with `segmented`). Returns its length.
u32 make_tcp(u8 *frame, u32 payload, bool segmented);
/// True when the IPv4 and the TCP checksum are right.
bool sums_are_right(const u8 *frame);

void offload_part(void);
void vlan_part(void);
void filters_part(void);
void scaling_part(void);
void formats_part(void);
void counters_part(void);
void link_part(void);

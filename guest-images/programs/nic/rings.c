#include "clock.h"
#include "parts.h"
#include "program.h"

#define MRQC_ENABLE 1u
#define MRQC_TCP_IPV4 (1u << 16)
#define MRQC_IPV4 (1u << 17)
#define RXCSUM_HASH (1u << 13)
#define ENTRIES 8u
#define END 1ul
#define FCS 2ul
#define SUM 4ul
#define REPORT 8ul

static struct dma_buffer ring, buffers;
static u8 frame[NIC_FRAME_MAX];

// The second receive ring: 8 descriptors, a page each.
static void open_second(void) {
  dma_buffer_open(&ring, b.space, 1);
  dma_buffer_open(&buffers, b.space, ENTRIES);
  for (u32 i = 0; i < ENTRIES; i++) ((u64 *)dma_pointer(&ring, i * 16))[0] = buffers.iova + i * PAGE_BYTES;
  set(&b, RDBAL1, (u32)ring.iova);
  set(&b, RDBAH1, (u32)(ring.iova >> 32));
  set(&b, RDLEN1, ENTRIES * 16);
  set(&b, RDH1, 0);
  set(&b, RDT1, ENTRIES - 1);
}

static bool first_is_done(void *context) {
  (void)context;
  return *(volatile u64 *)dma_pointer(&ring, 8) & 1;
}

void scaling_part(void) {
  // The key and the values of the verification suite of receive side scaling.
  static const u8 key[40] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                             0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                             0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
  step("receive side scaling: the hash of a known flow, and the second receive ring");
  for (u32 i = 0; i < 10; i++) set(&b, RSSRK + 4 * i, *(const u32 *)(key + 4 * i));
  for (u32 i = 0; i < 32; i++) set(&b, RETA + 4 * i, 0);
  set(&b, RXCSUM, 0x300 | RXCSUM_HASH);
  set(&b, MRQC, MRQC_ENABLE | MRQC_TCP_IPV4 | MRQC_IPV4);
  open_second();
  u32 bytes = make_tcp(frame, 64, false);
  static u8 got[NIC_FRAME_MAX + 8];
  nic_send(&a, frame, bytes);
  REQUIRE(nic_receive(&b, got, 1000) != 0, "the flow does not arrive on ring 0");
  u32 hash = (u32)(b.received[0] >> 32);
  print("hash: tcp=0x%08x type=%lu\n", hash, b.received[0] & 15);
  REQUIRE(hash == 0x51ccc178 && (b.received[0] & 15) == 1, "the hash of a TCP flow is 0x%08x", hash);
  set(&b, MRQC, MRQC_ENABLE | MRQC_IPV4);
  nic_send(&a, frame, bytes);
  REQUIRE(nic_receive(&b, got, 1000) != 0, "the flow does not arrive on ring 0");
  hash = (u32)(b.received[0] >> 32);
  REQUIRE(hash == 0x323e8fc2, "the hash of an IPv4 flow is 0x%08x", hash);
  for (u32 i = 0; i < 32; i++) set(&b, RETA + 4 * i, 0x80808080);
  nic_send(&a, frame, bytes);
  REQUIRE(wait_until(first_is_done, NULL, 1000), "the flow does not arrive on ring 1");
  u8 second[128];
  dma_copy_out(&buffers, 0, second, bytes);
  REQUIRE(memcmp(second, frame, bytes) == 0, "the frame on ring 1 differs");
  set(&b, MRQC, 0);
  set(&b, RXCSUM, 0x300);
}

static bool sent_is_done(void *context) { return *(volatile u64 *)context >> 32 & 1; }

void formats_part(void) {
  static u8 got[NIC_FRAME_MAX + 8];
  struct dma_buffer tx;
  step("the second transmit ring, with legacy descriptors and their checksum");
  dma_buffer_open(&tx, a.space, 2);
  u32 bytes = make_tcp(frame, 300, false);
  dma_copy_in(&tx, PAGE_BYTES, frame, bytes);
  u64 *d = (u64 *)dma_pointer(&tx, 0);
  d[0] = tx.iova + PAGE_BYTES;
  d[1] = bytes | (34ul + 16) << 16 | (END | FCS | SUM | REPORT) << 24 | 34ul << 40;
  set(&a, TDBAL1, (u32)tx.iova);
  set(&a, TDBAH1, (u32)(tx.iova >> 32));
  set(&a, TDLEN1, 128);
  set(&a, TDH1, 0);
  set(&a, TDT1, 0);
  set(&a, TDT1, 1);
  REQUIRE(wait_until(sent_is_done, &d[1], 1000), "ring 1 of a sends nothing");
  REQUIRE(nic_receive(&b, got, 1000) == bytes, "the frame of ring 1 does not arrive");
  got[24] = frame[24], got[25] = frame[25];
  u32 sum = 0, length = bytes - 34;
  for (u32 i = 0; i < 8 + length; i++) sum += i & 1 ? got[26 + i] : (u32)got[26 + i] << 8;
  sum += 6 + length;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  if (is_qemu) print("QEMU takes no checksum from legacy descriptors: it is left out\n");
  REQUIRE(sum == 0xffff || is_qemu, "a legacy descriptor inserted a wrong checksum");

  step("legacy receive descriptors on ring 1");
  set(&b, RFCTL, 0);
  for (u32 i = 0; i < ENTRIES; i++) {
    ((u64 *)dma_pointer(&ring, i * 16))[0] = buffers.iova + i * PAGE_BYTES;
    ((u64 *)dma_pointer(&ring, i * 16))[1] = 0;
  }
  // Ring 0 takes everything while receive side scaling is off: its next descriptor is looked at as it stands.
  volatile u64 *next = (volatile u64 *)dma_pointer(&b.rx_ring, b.rx_next * 16);
  nic_send(&a, frame, bytes);
  REQUIRE(wait_until(sent_is_done, (void *)(next + 1), 1000), "no frame with legacy receive descriptors");
  u64 word = next[1];
  print("legacy: length=%lu status=0x%lx errors=0x%lx\n", word & 0xffff, word >> 32 & 0xff, word >> 40 & 0xff);
  REQUIRE((word & 0xffff) == bytes && (word >> 32 & 3) == 3, "the legacy descriptor says 0x%lx", word);
  // The rings start anew in the extended format.
  const char *wrong = nic_open(&b, "b", b.function, b.space);
  REQUIRE(wrong == NULL, "%s", wrong);
}

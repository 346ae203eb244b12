#include "parts.h"
#include "program.h"

#define IP 14u
#define TCP 34u
#define HEADERS 54u
#define MSS 1460u

// Transmit descriptors (82574 datasheet 7.2.6, 7.2.7).
#define EXTENDED (1ul << 29)
#define DATA (1ul << 20)
#define CONTEXT_TCP_IPV4 (3ul << 24)
#define END (1ul << 24)
#define SEGMENT (1ul << 26)
#define REPORT (1ul << 27)
#define VLAN (1ul << 30)
#define INSERT_BOTH (3ul << 40)

#define CTRL_VLAN (1u << 30)
#define RCTL_VLAN_FILTER (1u << 18)
#define RX_VLAN 8u
#define RX_TCP_SUM 0x20u
#define RX_IP_SUM 0x40u
#define RX_TCP_BAD (1u << 29)
#define RX_IP_BAD (1u << 30)

static struct dma_buffer data;
static u8 frame[16384], got[NIC_FRAME_MAX + 8];

static void put16(u8 *at, u32 value) { at[0] = (u8)(value >> 8), at[1] = (u8)value; }
static u32 half(const u8 *at) { return (u32)at[0] << 8 | at[1]; }
static u32 word(const u8 *at) { return half(at) << 16 | half(at + 2); }

static u32 sum(u32 start, const u8 *bytes, u32 count) {
  for (u32 i = 0; i < count; i++) start += i & 1 ? bytes[i] : (u32)bytes[i] << 8;
  while (start >> 16) start = (start & 0xffff) + (start >> 16);
  return start;
}

u32 make_tcp(u8 *f, u32 payload, bool segmented) {
  static const u8 addresses[8] = {66, 9, 149, 187, 161, 142, 100, 80};
  memset(f, 0, HEADERS);
  memcpy(f, b.mac, 6);
  memcpy(f + 6, a.mac, 6);
  put16(f + 12, 0x0800);
  f[IP] = 0x45;
  put16(f + IP + 2, segmented ? 0 : 40 + payload);
  put16(f + IP + 4, 0x1234);
  f[IP + 8] = 64, f[IP + 9] = 6;
  memcpy(f + IP + 12, addresses, 8);
  put16(f + TCP, 2794);
  put16(f + TCP + 2, 1766);
  put16(f + TCP + 4, 0x1000);
  f[TCP + 12] = 0x50, f[TCP + 13] = 0x18;
  put16(f + TCP + 14, 8192);
  for (u32 i = 0; i < payload; i++) f[HEADERS + i] = (u8)(i * 7 + i / 251);
  put16(f + TCP + 16, sum(6 + (segmented ? 0 : 20 + payload), f + IP + 12, 8));
  return HEADERS + payload;
}

bool sums_are_right(const u8 *f) {
  u32 length = half(f + IP + 2);
  return sum(0, f + IP, 20) == 0xffff && sum(6 + length - 20, f + IP + 12, 8 + length - 20) == 0xffff;
}

static u64 context_low(void) {
  return IP | (IP + 10ul) << 8 | (u64)(TCP - 1) << 16 | (u64)TCP << 32 | (TCP + 16ul) << 40;
}

// A context descriptor, the frame in two data descriptors, checksums inserted.
static void send(u32 bytes, bool segmented, u64 more) {
  u64 kind = EXTENDED | (segmented ? SEGMENT : 0);
  u64 segments = segmented ? (u64)HEADERS << 40 | (u64)MSS << 48 : 0;
  dma_copy_in(&data, 0, frame, bytes);
  const u64 descriptors[][2] = {
      {context_low(), EXTENDED | REPORT | CONTEXT_TCP_IPV4 | (segmented ? SEGMENT | (bytes - HEADERS) : 0) | segments},
      {data.iova, HEADERS | DATA | kind | REPORT | INSERT_BOTH | more},
      {data.iova + HEADERS, (bytes - HEADERS) | DATA | kind | REPORT | END | INSERT_BOTH | more},
  };
  // QEMU's model drops a descriptor over two pages that are apart in memory only behind an IOMMU, which it has not.
  nic_send_raw(&a, descriptors, 3);
}

void offload_part(void) {
  dma_buffer_open(&data, a.space, 4);
  set(&b, RXCSUM, 0x300);
  step("IP and TCP checksums are inserted by a and verified by b");
  for (u32 payload = 6; payload <= MSS; payload += 97) {
    send(make_tcp(frame, payload, false), false, 0);
    u32 bytes = nic_receive(&b, got, 1000);
    REQUIRE(bytes >= HEADERS + payload, "b received %u bytes of a frame of %u", bytes, HEADERS + payload);
    REQUIRE(sums_are_right(got), "payload %u: a checksum is wrong", payload);
    REQUIRE(memcmp(got + HEADERS, frame + HEADERS, payload) == 0, "payload %u differs", payload);
    u32 status = (u32)b.received[1];
    REQUIRE((status & (RX_TCP_SUM | RX_IP_SUM)) == (RX_TCP_SUM | RX_IP_SUM) && !(status & (RX_TCP_BAD | RX_IP_BAD)),
            "b reports 0x%x about right checksums", status);
  }
  step("a wrong TCP checksum is reported");
  u32 bytes = make_tcp(frame, 100, false);
  send(bytes, false, 0);
  REQUIRE(nic_receive(&b, got, 1000) != 0, "b received nothing");
  got[HEADERS + 50] ^= 1;
  nic_send(&a, got, bytes);
  REQUIRE(nic_receive(&b, got, 1000) != 0, "b received nothing");
  REQUIRE(b.received[1] & RX_TCP_BAD, "b reports 0x%x about a wrong checksum", (u32)b.received[1]);

  if (is_qemu) {
    print("QEMU cuts TCP into IP fragments on a wire without offloads: segmentation is left out\n");
    return;
  }
  step("8000 bytes of TCP are cut into segments of %u", MSS);
  bytes = make_tcp(frame, 8000, true);
  send(bytes, true, 0);
  u32 done = 0, segments = 0;
  for (; done < 8000; segments++) {
    u32 length = nic_receive(&b, got, 1000);
    REQUIRE(length > HEADERS, "segment %u did not arrive", segments);
    u32 payload = half(got + IP + 2) - 40;
    REQUIRE(sums_are_right(got), "segment %u has a wrong checksum", segments);
    REQUIRE(word(got + TCP + 4) == 0x10000000 + done, "segment %u has sequence number 0x%x", segments, word(got + TCP + 4));
    REQUIRE(half(got + IP + 4) == 0x1234 + segments, "segment %u has IP identification 0x%x", segments, half(got + IP + 4));
    REQUIRE(((got[TCP + 13] & 8) != 0) == (done + payload == 8000), "segment %u has flags 0x%x", segments, got[TCP + 13]);
    REQUIRE(memcmp(got + HEADERS, frame + HEADERS + done, payload) == 0, "segment %u differs", segments);
    done += payload;
  }
  print("segments: count=%u bytes=%u\n", segments, done);
}

void vlan_part(void) {
  step("a inserts VLAN tag 0x2abc, b takes it out; b's filter knows tag 0xabc only");
  set(&a, CTRL, get(&a, CTRL) | CTRL_VLAN);
  set(&b, CTRL, get(&b, CTRL) | CTRL_VLAN);
  u32 bytes = make_tcp(frame, 200, false);
  send(bytes, false, VLAN | 0x2abcul << 48);
  u32 length = nic_receive(&b, got, 1000);
  REQUIRE(length >= bytes && half(got + 12) == 0x0800, "the tag was not taken out of %u bytes", length);
  REQUIRE((b.received[1] & RX_VLAN) && b.received[1] >> 48 == 0x2abc, "b reports 0x%lx", b.received[1]);
  set(&b, CTRL, get(&b, CTRL) & ~CTRL_VLAN);
  send(bytes, false, VLAN | 0x2abcul << 48);
  REQUIRE(nic_receive(&b, got, 1000) >= bytes + 4 && half(got + 12) == 0x8100 && half(got + 14) == 0x2abc, "no tag in the frame");
  for (u32 i = 0; i < 128; i++) set(&b, VFTA + 4 * i, 0);
  set(&b, VFTA + 4 * (0xabc >> 5), 1u << (0xabc & 31));
  set(&b, RCTL, get(&b, RCTL) | RCTL_VLAN_FILTER);
  send(bytes, false, VLAN | 0x0123ul << 48);
  send(bytes, false, VLAN | 0x0abcul << 48);
  REQUIRE(nic_receive(&b, got, 1000) != 0 && half(got + 14) == 0x0abc, "the VLAN filter let tag 0x%x through", half(got + 14));
  REQUIRE(nic_receive(&b, got, 5) == 0, "a second frame came through the VLAN filter");
  set(&b, RCTL, get(&b, RCTL) & ~RCTL_VLAN_FILTER);
  set(&a, CTRL, get(&a, CTRL) & ~CTRL_VLAN);
}

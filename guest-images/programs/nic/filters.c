#include "clock.h"
#include "parts.h"
#include "prng.h"
#include "program.h"

#define RCTL_ALL_UNICAST 8u
#define RCTL_ALL_MULTICAST 16u
#define RCTL_BROADCAST (1u << 15)

// Statistics (10.2.7); reading clears them.
#define GPRC 0x4074
#define BPRC 0x4078
#define MPRC 0x407c
#define GPTC 0x4080
#define PRC64 0x405c
#define PTC1522 0x40ec

static u8 frame[NIC_FRAME_MAX], got[NIC_FRAME_MAX + 8];

static void make(const u8 *to, u32 bytes, u32 seed) {
  for (u32 i = 14; i < bytes; i++) frame[i] = (u8)xorshift32(&seed);
  memcpy(frame, to, 6);
  memcpy(frame + 6, a.mac, 6);
  frame[12] = 0x88, frame[13] = 0xb5;
}

// True when a frame to this address arrives, whole.
static bool arrives(const u8 *to) {
  static u32 seed = 1;
  make(to, 80, ++seed);
  nic_send(&a, frame, 80);
  nic_drain(&a, 100);
  u32 bytes = nic_receive(&b, got, 5);
  if (bytes == 0) return false;
  REQUIRE(bytes == 80 && memcmp(frame, got, 80) == 0, "another frame arrived than was sent");
  return true;
}

static u32 hash_of(const u8 *address) { return (address[4] | (u32)address[5] << 8) >> 4 & 0xfff; }

void filters_part(void) {
  static const u8 foreign[6] = {0x02, 1, 2, 3, 4, 5}, group[6] = {0x01, 0, 0x5e, 0x11, 0x22, 0x33};
  static const u8 everyone[6] = {255, 255, 255, 255, 255, 255};
  step("filters: own, foreign and promiscuous unicast, multicast by hash and all, broadcast");
  u32 rctl = get(&b, RCTL), hash = hash_of(group);
  REQUIRE(arrives(b.mac), "a frame to b does not arrive");
  REQUIRE(!arrives(foreign), "a frame to another station arrives");
  set(&b, RCTL, rctl | RCTL_ALL_UNICAST);
  REQUIRE(arrives(foreign), "b is not promiscuous");
  set(&b, RCTL, rctl);
  REQUIRE(!arrives(group), "a frame to a group arrives that b is not in");
  set(&b, MTA + 4 * (hash >> 5), 1u << (hash & 31));
  REQUIRE(arrives(group), "a frame to b's group does not arrive");
  set(&b, MTA + 4 * (hash >> 5), 0);
  set(&b, RCTL, rctl | RCTL_ALL_MULTICAST);
  REQUIRE(arrives(group), "b does not take all groups");
  set(&b, RCTL, rctl & ~RCTL_BROADCAST);
  REQUIRE(!arrives(everyone), "a broadcast arrives although it is off");
  set(&b, RCTL, rctl | RCTL_BROADCAST);
  REQUIRE(arrives(everyone), "a broadcast does not arrive");
  set(&b, RCTL, rctl);
}

void counters_part(void) {
  static const u8 everyone[6] = {255, 255, 255, 255, 255, 255};
  step("statistics of 20 frames of 1514 bytes and 7 broadcasts of 60; throttled interrupts");
  // 4096 units of 256 ns: about a millisecond between two interrupts.
  set(&b, EITR0, 4096);
  u64 before = b.rx_interrupts;
  static const u32 counters[] = {GPRC, BPRC, MPRC, PRC64};
  for (u32 i = 0; i < LENGTH(counters); i++) get(&b, counters[i]);
  get(&a, GPTC), get(&a, PTC1522);
  for (u32 i = 0; i < 20; i++) {
    make(b.mac, 1514, i + 1);
    nic_send(&a, frame, 1514);
  }
  for (u32 i = 0; i < 7; i++) {
    make(everyone, 60, i + 1);
    nic_send(&a, frame, 60);
  }
  for (u32 i = 0; i < 27; i++) REQUIRE(nic_receive(&b, got, 1000) != 0, "frame %u does not arrive", i);
  u32 good = get(&b, GPRC), broadcasts = get(&b, BPRC), small = get(&b, PRC64), sent = get(&a, GPTC), large = get(&a, PTC1522);
  print("statistics: received=%u broadcasts=%u of_64=%u sent=%u of_1522=%u interrupts=%lu\n", good, broadcasts, small, sent,
        large, b.rx_interrupts - before);
  // QEMU counts frames of 60 bytes and their FCS as longer than 64.
  REQUIRE(good == 27 && broadcasts == 7 && (small == 7 || is_qemu) && sent == 27 && large == 20, "the statistics are wrong");
  REQUIRE(get(&b, GPRC) == 0, "reading does not clear a counter");
  REQUIRE(b.rx_interrupts - before < 27, "the interrupts were not throttled");
  set(&b, EITR0, 0);
}

#define PHY_RESTART 0x1200u
#define LINK_UP 2u

static bool is_up(void *context) { return get(context, STATUS) & LINK_UP; }
static bool is_down(void *context) { return !is_up(context); }

void link_part(void) {
  step("restart auto-negotiation: the link goes down and comes up again");
  set(&a, MDIC, PHY_RESTART | 0u << 16 | 1u << 21 | 1u << 26);
  bool went = wait_until(is_down, &a, 5);
  REQUIRE(wait_until(is_up, &a, 5000), "the link stays down");
  print("link: went_down=%u\n", went);
  REQUIRE(arrives(b.mac), "a frame after the link came up does not arrive");
  step("reset a with 30 frames on their way, and go on");
  make(b.mac, 1514, 9);
  for (u32 i = 0; i < 30; i++) nic_send(&a, frame, 1514);
  const char *wrong = nic_open(&a, "a", a.function, a.space);
  REQUIRE(wrong == NULL, "%s", wrong);
  u32 arrived = 0;
  while (nic_receive(&b, got, 5) != 0) arrived++;
  print("reset: arrived=%u\n", arrived);
  REQUIRE(arrived <= 30 && arrives(b.mac), "a does not send after a reset");
  step("function-level reset of a");
  if (!pci_function_reset(a.function)) {
    print("no function-level reset: it is left out\n");
    return;
  }
  wrong = nic_open(&a, "a", a.function, a.space);
  REQUIRE(wrong == NULL, "%s", wrong);
  REQUIRE(arrives(b.mac), "a does not send after a function-level reset");
}

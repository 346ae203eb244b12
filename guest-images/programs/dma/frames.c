#include "parts.h"
#include "prng.h"
#include "program.h"

#define FRAMES 224u
#define BATCH 32u
// An EtherType for experiments on one's own network (IEEE 802).
#define ETHERTYPE 0x88b5

static const u16 edges[] = {60,  61,  62,  63,  64,  65,   66,   127,  128,  129,  255,
                            256, 257, 511, 512, 513, 1023, 1024, 1025, 1500, 1513, 1514};

static u32 length_of(u32 number, u32 seed) {
  if (number < LENGTH(edges)) return edges[number];
  u32 state = seed ^ (number + 1) * 0x9e3779b9;
  for (u32 i = 0; i < 4; i++) xorshift32(&state);
  return 60 + state % (NIC_FRAME_MAX - 60 + 1);
}

// Frame `number` of this direction: every byte follows from the number, the seed and the two addresses.
static u32 make_frame(u8 *frame, const struct nic *from, const struct nic *to, u32 number, u32 seed) {
  u32 bytes = length_of(number, seed), state = seed + number * 0x01000193 + 1;
  memcpy(frame, to->mac, 6);
  memcpy(frame + 6, from->mac, 6);
  frame[12] = ETHERTYPE >> 8;
  frame[13] = ETHERTYPE & 0xff;
  for (u32 i = 14; i < bytes; i++) {
    if (i % 4 == 2) xorshift32(&state);
    frame[i] = (u8)(state >> 8 * (i % 4));
  }
  return bytes;
}

static void one_way(struct nic *from, struct nic *to, u32 seed) {
  static u8 sent[NIC_FRAME_MAX + 2], got[NIC_FRAME_MAX + 2];
  u64 total = 0;
  for (u32 first = 0; first < FRAMES; first += BATCH) {
    for (u32 number = first; number < first + BATCH; number++) {
      u32 bytes = make_frame(sent, from, to, number, seed);
      nic_send(from, sent, bytes);
    }
    for (u32 number = first; number < first + BATCH; number++) {
      u32 bytes = make_frame(sent, from, to, number, seed);
      u32 received = nic_receive(to, got, 2000);
      REQUIRE(received != 0, "%s did not receive frame %u of %u bytes", to->name, number, bytes);
      REQUIRE(received == bytes, "%s received %u bytes of frame %u, %u were sent", to->name, received, number, bytes);
      for (u32 i = 0; i < bytes; i++)
        REQUIRE(got[i] == sent[i], "%s: byte %u of frame %u is 0x%02x, 0x%02x was sent", to->name, i, number, got[i],
                sent[i]);
      total += bytes;
    }
  }
  REQUIRE(nic_drain(from, 1000), "%s did not report all frames as sent", from->name);
  print("frames: from=%s to=%s count=%u bytes=%lu shortest=60 longest=%u\n", from->name, to->name, FRAMES, total,
        NIC_FRAME_MAX);
}

void frames_part(struct nic *a, struct nic *b) {
  step("send %u frames of 60 to %u bytes from %s to %s", FRAMES, NIC_FRAME_MAX, a->name, b->name);
  one_way(a, b, 0x5eed0001);
  step("send %u frames of 60 to %u bytes from %s to %s", FRAMES, NIC_FRAME_MAX, b->name, a->name);
  one_way(b, a, 0x5eed0002);
}

#include "iommu.h"
#include "parts.h"
#include "prng.h"
#include "program.h"

#define AREA (1ul << 20)  // where on the disk the blocks are written
#define FUA (1u << 30)

static void fill(const struct dma_buffer *b, u64 bytes, u32 seed) {
  for (u64 at = 0; at < bytes; at += 4) *(u32 *)dma_pointer(b, at) = xorshift32(&seed);
}

static void clear(const struct dma_buffer *b) {
  for (u32 i = 0; i < b->pages; i++) memset((void *)b->page[i], 0xee, PAGE_BYTES);
}

static bool same(const struct dma_buffer *a, u64 at_a, const struct dma_buffer *b, u64 at_b, u64 bytes) {
  for (u64 i = 0; i < bytes; i++)
    if (*dma_pointer(a, at_a + i) != *dma_pointer(b, at_b + i)) return false;
  return true;
}

static struct nvme_command blocks_of(u8 opcode, u64 at, u64 bytes) {
  struct nvme_command c = {.opcode = opcode, .namespace_id = 1, .word12 = (u32)(bytes / nvme.block_bytes) - 1};
  c.word10 = (u32)(at / nvme.block_bytes);
  return c;
}

static u16 transfer(u32 queue, u8 opcode, u64 at, const struct dma_buffer *b, u64 bytes) {
  return nvme_wait(&nvme, queue, nvme_start(&nvme, queue, opcode, at, b, 0, bytes, 32));
}

void blocks_part(void) {
  struct dma_buffer out, in;
  u32 pages = MIN(nvme.transfer_bytes, 1u << 19) / (u32)PAGE_BYTES;
  dma_buffer_open(&out, &space, pages);
  dma_buffer_open(&in, &space, pages);
  u64 all = pages * PAGE_BYTES;

  step("write and read 512 bytes to %lu KiB by PRPs on every queue", all >> 10);
  fill(&out, all, 0x12345);
  static const u64 sizes[] = {512, 4096, 4608, 8192, 12288, 65536};
  for (u32 q = 1; q <= nvme.io_queues; q++)
    for (u32 i = 0; i <= LENGTH(sizes); i++) {
      u64 bytes = i < LENGTH(sizes) ? sizes[i] : all;
      clear(&in);
      REQUIRE(transfer(q, NVME_WRITE, AREA, &out, bytes) == SUCCESS, "a write of %lu bytes fails", bytes);
      REQUIRE(transfer(q, NVME_READ, AREA, &in, bytes) == SUCCESS, "a read of %lu bytes fails", bytes);
      REQUIRE(same(&out, 0, &in, 0, bytes), "queue %u: %lu bytes differ from what was written", q, bytes);
      if (bytes < all) REQUIRE(*dma_pointer(&in, bytes) == 0xee, "a read of %lu bytes wrote more", bytes);
    }

  step("%u commands in flight on each of %u queues at once", 16, nvme.io_queues);
  for (u32 i = 0; i < 16; i++)
    for (u32 q = 1; q <= nvme.io_queues; q++) {
      u64 at = (((q - 1) * 16 + i) * 8192ul) % all;
      nvme_start(&nvme, q, NVME_READ, AREA + at, &in, at, 8192, 32);
    }
  for (u32 q = 1; q <= nvme.io_queues; q++) REQUIRE(nvme_drain(&nvme, q) == SUCCESS, "queue %u: a read fails", q);
  REQUIRE(same(&out, 0, &in, 0, MIN(all, nvme.io_queues * 16ul * 8192)), "reads in parallel brought other data");

  step("Compare, Verify, Force Unit Access, Flush");
  struct nvme_command c = blocks_of(IO_COMPARE, AREA, 4096);
  c.prp1 = out.iova;
  expect("Compare with what was written", 1, c, SUCCESS);
  *dma_pointer(&out, 4095) ^= 1;
  expect("Compare with one bit changed", 1, c, COMPARE_FAILURE);
  *dma_pointer(&out, 4095) ^= 1;
  expect("Verify", 2, blocks_of(IO_VERIFY, AREA, 4096), SUCCESS);
  c = blocks_of(NVME_WRITE, AREA + 65536, 4096), c.prp1 = out.iova, c.word12 |= FUA;
  expect("Write with FUA", 1, c, SUCCESS);
  c = blocks_of(NVME_READ, AREA + 65536, 4096), c.prp1 = in.iova, c.word12 |= FUA;
  expect("Read with FUA", 1, c, SUCCESS);
  REQUIRE(same(&out, 0, &in, 0, 4096), "what FUA wrote differs");
  expect("Flush", 1, (struct nvme_command){.opcode = NVME_FLUSH, .namespace_id = 1}, SUCCESS);
  expect("Flush of all namespaces", 1, (struct nvme_command){.opcode = NVME_FLUSH, .namespace_id = 0xffffffff}, SUCCESS);

  step("Write Zeroes, Dataset Management with two ranges");
  expect("Write Zeroes", 1, blocks_of(IO_WRITE_ZEROES, AREA + 4096, 8192), SUCCESS);
  REQUIRE(transfer(1, NVME_READ, AREA, &in, 16384) == SUCCESS, "a read fails");
  for (u32 i = 0; i < 16384; i++) {
    u8 expected = i >= 4096 && i < 12288 ? 0 : *dma_pointer(&out, i);
    REQUIRE(*dma_pointer(&in, i) == expected, "byte %u behind Write Zeroes is 0x%02x", i, *dma_pointer(&in, i));
  }
  u32 *range = (u32 *)dma_pointer(&data, 0);
  memset(range, 0, 32);
  range[1] = 4096 / nvme.block_bytes, range[2] = (u32)(AREA / nvme.block_bytes);
  range[5] = 4096 / nvme.block_bytes, range[6] = (u32)((AREA + 12288) / nvme.block_bytes);
  c = (struct nvme_command){.opcode = IO_DATASET, .namespace_id = 1, .prp1 = data.iova, .word10 = 1, .word11 = 4};
  expect("deallocate", 1, c, SUCCESS);
  REQUIRE(transfer(1, NVME_READ, AREA, &in, 20480) == SUCCESS, "a read fails");
  REQUIRE(same(&out, 16384, &in, 16384, 4096), "deallocating changed other blocks");
  if (!is_qemu)
    for (u32 i = 0; i < 16384; i++) REQUIRE(*dma_pointer(&in, i) == 0, "byte %u of a deallocated block is not 0", i);
  print("blocks: bytes=%lu queues=%u\n", all, nvme.io_queues);
  dma_buffer_close(&out);
  dma_buffer_close(&in);
}

static void descriptor(u8 *at, u64 address, u32 bytes, u8 type) {
  *(u64 *)at = address;
  *(u32 *)(at + 8) = bytes;
  *(u32 *)(at + 12) = (u32)type << 28;
}

#define SGL_FLAG 0x40
#define DATA_BLOCK 0
#define BIT_BUCKET 1
#define SEGMENT 2
#define LAST_SEGMENT 3

static struct nvme_command with_sgl(struct nvme_command c, u64 address, u32 bytes, u8 type) {
  c.flags = SGL_FLAG;
  descriptor((u8 *)&c.prp1, address, bytes, type);
  return c;
}

static void bit_bucket(const struct dma_buffer *out, const struct dma_buffer *in, const struct dma_buffer *list) {
  u8 *first = dma_pointer(list, 0);
  clear(in);
  descriptor(first, in->iova, 512, DATA_BLOCK);
  descriptor(first + 16, 0, 3072, BIT_BUCKET);
  descriptor(first + 32, in->iova + 512, 512, DATA_BLOCK);
  expect("a read with a bit bucket", 1, with_sgl(blocks_of(NVME_READ, AREA, 4096), list->iova, 48, LAST_SEGMENT),
         SUCCESS);
  REQUIRE(same(out, 0, in, 0, 512) && same(out, 3584, in, 512, 512), "data around a bit bucket differ");
  REQUIRE(*dma_pointer(in, 1024) == 0xee, "a bit bucket moved data");
}

void lists_part(void) {
  struct dma_buffer out, in, list;
  dma_buffer_open(&out, &space, 16);
  dma_buffer_open(&in, &space, 16);
  dma_buffer_open(&list, &space, 2);
  fill(&out, 65536, 0xbeef);
  REQUIRE(transfer(1, NVME_WRITE, AREA, &out, 65536) == SUCCESS, "a write fails");

  step("PRPs with an offset: PRP1 in the middle of a page, a list in the middle of another");
  clear(&in);
  u64 *entries = (u64 *)dma_pointer(&list, 0);
  struct nvme_command c = blocks_of(NVME_READ, AREA, 16384);
  c.prp1 = in.iova + 0x604;
  c.prp2 = list.iova + 8 * 100;
  for (u32 i = 0; i < 4; i++) entries[100 + i] = in.iova + (i + 1) * PAGE_BYTES;
  expect("a read to PRPs with an offset", 1, c, SUCCESS);
  REQUIRE(same(&out, 0, &in, 0x604, 16384), "data through PRPs with an offset differ");
  step("a list of PRPs chained over two pages");
  clear(&in);
  c = blocks_of(NVME_READ, AREA, 65536);
  c.prp1 = in.iova;
  c.prp2 = list.iova + PAGE_BYTES - 8 * 4;
  for (u32 i = 0; i < 3; i++) entries[508 + i] = in.iova + (i + 1) * PAGE_BYTES;
  entries[511] = list.iova + PAGE_BYTES;
  for (u32 i = 0; i < 12; i++) ((u64 *)dma_pointer(&list, PAGE_BYTES))[i] = in.iova + (i + 4) * PAGE_BYTES;
  expect("a read to a chained list", 1, c, SUCCESS);
  REQUIRE(same(&out, 0, &in, 0, 65536), "data through a chained list differ");

  step("SGLs: one data block, segments, a bit bucket");
  clear(&in);
  expect("a read to one data block", 1, with_sgl(blocks_of(NVME_READ, AREA, 8192), in.iova + 12, 8192, DATA_BLOCK), SUCCESS);
  REQUIRE(same(&out, 0, &in, 12, 8192), "data through an SGL data block differ");
  // Two segments: 3 blocks and the pointer, then 2 blocks, of odd sizes and places.
  clear(&in);
  u8 *first = dma_pointer(&list, 0), *second = dma_pointer(&list, PAGE_BYTES);
  descriptor(first, in.iova + 1, 1001, DATA_BLOCK);
  descriptor(first + 16, in.iova + 5000, 3000, DATA_BLOCK);
  descriptor(first + 32, in.iova + 20000, 95, DATA_BLOCK);
  descriptor(first + 48, list.iova + PAGE_BYTES, 32, LAST_SEGMENT);
  descriptor(second, in.iova + 30000, 4000, DATA_BLOCK);
  descriptor(second + 16, in.iova + 40000, 8192 - 1001 - 3000 - 95 - 4000, DATA_BLOCK);
  expect("a read to five data blocks", 1, with_sgl(blocks_of(NVME_READ, AREA, 8192), list.iova, 64, SEGMENT), SUCCESS);
  bool is_right = same(&out, 0, &in, 1, 1001) && same(&out, 1001, &in, 5000, 3000) && same(&out, 4001, &in, 20000, 95) &&
                  same(&out, 4096, &in, 30000, 4000) && same(&out, 8096, &in, 40000, 96);
  REQUIRE(is_right, "data through five SGL data blocks differ");
  REQUIRE(*dma_pointer(&in, 0) == 0xee && *dma_pointer(&in, 1002) == 0xee, "an SGL data block was overrun");
  if (sgl_support & SGL_BIT_BUCKETS) bit_bucket(&out, &in, &list);
  else print("no SGL bit buckets: they are left out\n");
  // What was written by an SGL is read by PRPs.
  descriptor(first, out.iova + 777, 4096, DATA_BLOCK);
  descriptor(first + 16, out.iova + 13000, 4096, DATA_BLOCK);
  expect("a write from two data blocks", 1, with_sgl(blocks_of(NVME_WRITE, AREA, 8192), list.iova, 32, LAST_SEGMENT), SUCCESS);
  REQUIRE(transfer(1, NVME_READ, AREA, &in, 8192) == SUCCESS, "a read fails");
  REQUIRE(same(&out, 777, &in, 0, 4096) && same(&out, 13000, &in, 4096, 4096), "what an SGL wrote differs");

  step("SGLs that cannot be");
  struct nvme_command read = blocks_of(NVME_READ, AREA, 4096);
  expect("too short a data block", 1, with_sgl(read, in.iova, 2048, DATA_BLOCK), SGL_LENGTH_INVALID);
  if (!is_qemu) expect("descriptor type 7", 1, with_sgl(read, in.iova, 4096, 7), SGL_TYPE_INVALID);
  if (!is_qemu) expect("a segment of 24 bytes", 1, with_sgl(read, list.iova, 24, LAST_SEGMENT), INVALID_SGL_SEGMENT);
  dma_buffer_close(&out);
  dma_buffer_close(&in);
  dma_buffer_close(&list);
}

void malformed_part(void) {
  step("malformed I/O commands end in their statuses");
  struct nvme_command c = blocks_of(NVME_READ, 0, 4096);
  c.prp1 = data.iova;
  struct nvme_command wrong = c;
  wrong.opcode = 0x7e;
  expect("opcode 0x7e", 1, wrong, INVALID_OPCODE);
  wrong = c, wrong.namespace_id = 0;
  expect("namespace 0", 1, wrong, INVALID_NAMESPACE);
  wrong = c, wrong.namespace_id = 4000;
  expect("namespace 4000", 1, wrong, INVALID_NAMESPACE);
  wrong = c, wrong.word10 = (u32)nvme.blocks - 4, wrong.word11 = 0;
  expect("a read over the end", 1, wrong, LBA_OUT_OF_RANGE);
  wrong = c, wrong.word11 = 0xffffffff, wrong.word10 = 0xffffffff;
  expect("a read of the last block of all", 1, wrong, LBA_OUT_OF_RANGE);
  wrong = c, wrong.word12 = 0xffff;
  expect("a read of more than a transfer", 1, wrong, INVALID_FIELD);
  wrong = c, wrong.word12 = 8192 / nvme.block_bytes - 1, wrong.prp2 = data.iova + 4;
  expect("PRP2 with an offset", 1, wrong, PRP_OFFSET_INVALID);
  wrong = (struct nvme_command){.opcode = 0x7e};
  expect("admin opcode 0x7e", 0, wrong, INVALID_OPCODE);
  wrong = blocks_of(IO_WRITE_ZEROES, 0, 4096), wrong.word10 = (u32)nvme.blocks;
  expect("Write Zeroes over the end", 1, wrong, LBA_OUT_OF_RANGE);
  if (!is_qemu) {
    wrong = c, wrong.prp1 = data.iova + 2;
    expect("PRP1 that is not on a dword", 1, wrong, PRP_OFFSET_INVALID);
  }
  if (space.translated && !is_qemu) {
    struct dma_buffer gone;
    dma_buffer_open(&gone, &space, 1);
    wrong = c, wrong.prp1 = gone.iova;
    dma_buffer_close(&gone);
    expect("a read to an unmapped page", 1, wrong, DATA_TRANSFER_ERROR);
    struct iommu_fault fault;
    REQUIRE(iommu_wait_fault(&fault, 1000) && fault.iotval / PAGE_BYTES == wrong.prp1 / PAGE_BYTES, "no fault at 0x%lx",
            wrong.prp1);
    print("fault: cause=%u (%s) iova=0x%lx\n", fault.cause, iommu_cause_name(fault.cause), fault.iotval);
    while (iommu_take_fault(&fault));
  }
}

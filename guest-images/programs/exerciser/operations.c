#include "crc32.h"
#include "iommu.h"
#include "parts.h"
#include "prng.h"
#include "program.h"

#define IOVA 0x3000000000ul
#define READ_PAGE_FAULT 13u
#define WRITE_PAGE_FAULT 15u

static struct dma_space space;

void operations_part(void) {
  struct dma_buffer a, b;
  dma_space_open(&space, "exerciser", x.function, IOVA);
  dma_buffer_open(&a, &space, 4);
  dma_buffer_open(&b, &space, 4);
  u64 bytes = 4 * PAGE_BYTES;
  u32 seed = 77;
  for (u64 at = 0; at < bytes; at += 4) *(u32 *)dma_pointer(&a, at) = xorshift32(&seed);

  step("read, write, fill, copy and compare %lu bytes over scattered pages", bytes);
  struct exerciser_completion c;
  c = expect("read", (struct exerciser_descriptor){.opcode = OP_READ, .source = a.iova + 3, .length = 9000}, DONE_SUCCESS);
  u8 whole[16];
  dma_copy_out(&a, 3, whole, sizeof whole);
  u32 crc = 0;
  for (u64 at = 3; at < 9003; at++) crc = crc32(crc, dma_pointer(&a, at), 1);
  REQUIRE((u32)c.value == crc, "the data read have the CRC 0x%08x, not 0x%08x", (u32)c.value, crc);
  expect("write", (struct exerciser_descriptor){.opcode = OP_WRITE, .destination = b.iova + 100, .length = 9000}, DONE_SUCCESS);
  for (u64 i = 0; i < 9000; i++)
    REQUIRE(*dma_pointer(&b, 100 + i) == *dma_pointer(&a, 3 + i), "byte %lu written differs", i);
  expect("fill", (struct exerciser_descriptor){.opcode = OP_FILL, .destination = b.iova, .length = (u32)bytes, .operand = 0x1122334455667788},
         DONE_SUCCESS);
  REQUIRE(*(u64 *)dma_pointer(&b, 8192) == 0x1122334455667788, "fill wrote 0x%lx", *(u64 *)dma_pointer(&b, 8192));
  struct exerciser_descriptor compare = {.opcode = OP_COMPARE, .source = a.iova, .destination = b.iova, .length = (u32)bytes};
  expect("compare of what differs", compare, DONE_MISMATCH);
  expect("copy", (struct exerciser_descriptor){.opcode = OP_COPY, .source = a.iova, .destination = b.iova, .length = (u32)bytes}, DONE_SUCCESS);
  expect("compare of what is equal", compare, DONE_SUCCESS);
  *dma_pointer(&b, 5001) ^= 0x10;
  c = expect("compare with one bit changed", compare, DONE_MISMATCH);
  REQUIRE(c.fault_offset == 5001, "compare found the difference at %u", c.fault_offset);

  step("atomics: fetch and add, swap, compare and swap");
  u64 *cell = (u64 *)dma_pointer(&b, 64);
  *cell = 1000;
  struct exerciser_descriptor atomic = {.opcode = OP_FETCH_ADD, .destination = b.iova + 64, .operand = 5, .operand_bytes = 8};
  c = expect("fetch and add", atomic, DONE_SUCCESS);
  REQUIRE(c.value == 1000 && *cell == 1005, "fetch and add made %lu of %lu", *cell, c.value);
  atomic.opcode = OP_SWAP, atomic.operand = 7;
  c = expect("swap", atomic, DONE_SUCCESS);
  REQUIRE(c.value == 1005 && *cell == 7, "swap made %lu of %lu", *cell, c.value);
  atomic.opcode = OP_COMPARE_SWAP, atomic.operand = 9, atomic.compare = 8;
  expect("compare and swap of another value", atomic, DONE_MISMATCH);
  REQUIRE(*cell == 7, "compare and swap stored although the value differed");
  atomic.compare = 7;
  expect("compare and swap", atomic, DONE_SUCCESS);
  REQUIRE(*cell == 9, "compare and swap did not store");

  step("48 transactions at once, fenced");
  for (u32 i = 0; i < 48; i++)
    exerciser_submit(&x, &(struct exerciser_descriptor){.opcode = OP_FETCH_ADD, .tag = i, .destination = b.iova + 64,
                                                        .operand = 1, .operand_bytes = 8, .flags = i % 8 ? 0 : FLAG_FENCE});
  for (u32 i = 0; i < 48; i++) REQUIRE(exerciser_take(&x, &c, 100) && c.status == DONE_SUCCESS, "transaction %u fails", i);
  REQUIRE(*cell == 9 + 48, "48 additions made %lu of 9", *cell);

  step("what cannot be: opcode 200, length 0, a misaligned atomic, PASIDs while they are off, an unmapped page");
  expect("opcode 200", (struct exerciser_descriptor){.opcode = 200}, DONE_INVALID_DESCRIPTOR);
  expect("length 0", (struct exerciser_descriptor){.opcode = OP_READ, .source = a.iova}, DONE_INVALID_DESCRIPTOR);
  atomic.destination += 1;
  expect("a misaligned atomic", atomic, DONE_INVALID_DESCRIPTOR);
  expect("a PASID while they are off", (struct exerciser_descriptor){.opcode = OP_READ, .source = a.iova, .length = 8, .source_mode = MODE_PASID, .source_pasid = 1},
         DONE_NOT_ENABLED);
  u64 hole = a.iova + bytes;
  c = expect("a read over the end", (struct exerciser_descriptor){.opcode = OP_READ, .source = hole - 100, .length = 200}, DONE_UNSUPPORTED);
  REQUIRE(c.bytes_done == 100, "%u bytes were read before the fault", c.bytes_done);
  expect_fault(hole, READ_PAGE_FAULT);
  expect("a write to nowhere", (struct exerciser_descriptor){.opcode = OP_FILL, .destination = hole, .length = 8}, DONE_UNSUPPORTED);
  expect_fault(hole, WRITE_PAGE_FAULT);
  dma_buffer_close(&a);
  dma_buffer_close(&b);
}

#define PROCESS_IOVA 0x10000000ul

static void two_processes(u32 mode, const u32 pasids[2]) {
  struct process_directory directory;
  struct dma_space spaces[2];
  struct dma_buffer buffers[2];
  process_directory_open(&directory, x.function, mode, 0);
  for (u32 i = 0; i < 2; i++) {
    dma_space_open_process(&spaces[i], i ? "second" : "first", x.function, PROCESS_IOVA);
    dma_buffer_open(&buffers[i], &spaces[i], 2);
    process_bind(&directory, pasids[i], (u64)spaces[i].root, spaces[i].pscid);
  }
  REQUIRE(buffers[0].iova == buffers[1].iova, "the two processes have different addresses");
  u64 at = buffers[0].iova;
  for (u32 i = 0; i < 2; i++)
    expect("fill with a PASID",
           (struct exerciser_descriptor){.opcode = OP_FILL, .destination = at, .length = 8192, .operand = 0xabcd0000 + i,
                                         .destination_mode = MODE_PASID, .destination_pasid = pasids[i]},
           DONE_SUCCESS);
  for (u32 i = 0; i < 2; i++)
    for (u64 offset = 0; offset < 8192; offset += 8)
      REQUIRE(*(u64 *)dma_pointer(&buffers[i], offset) == 0xabcd0000 + i, "PASID 0x%x wrote 0x%lx", pasids[i],
              *(u64 *)dma_pointer(&buffers[i], offset));
  expect("copy from one process to the other",
         (struct exerciser_descriptor){.opcode = OP_COPY, .source = at, .destination = at, .length = 4096,
                                       .source_mode = MODE_PASID, .source_pasid = pasids[1],
                                       .destination_mode = MODE_PASID, .destination_pasid = pasids[0]},
         DONE_SUCCESS);
  REQUIRE(*(u64 *)dma_pointer(&buffers[0], 0) == 0xabcd0001, "the copy between processes did not arrive");
  // Neither a PASID without a context nor, without DPE, a request without a PASID gets anywhere.
  struct exerciser_descriptor read = {.opcode = OP_READ, .source = at, .length = 8, .source_mode = MODE_PASID};
  read.source_pasid = pasids[0] ^ 3;
  expect("a PASID without a context", read, DONE_UNSUPPORTED);
  expect_fault(at, 0);
  step("unbind PASID 0x%x", pasids[0]);
  process_unbind(&directory, pasids[0], spaces[0].pscid);
  read.source_pasid = pasids[0];
  expect("a PASID that was unbound", read, DONE_UNSUPPORTED);
  expect_fault(at, 0);
  read.source_pasid = pasids[1];
  expect("the other PASID", read, DONE_SUCCESS);
  print("processes: mode=PD%u pasids=0x%x,0x%x table_pages=%u\n", mode == 1 ? 8 : mode == 2 ? 17 : 20, pasids[0], pasids[1],
        directory.table_pages);
  process_unbind(&directory, pasids[1], spaces[1].pscid);
  process_directory_close(&directory);
}

void processes_part(void) {
  static const u32 pasids[3][2] = {{1, 0xf0}, {0x100, 0x1ffe5}, {0x20010, 0xffff0}};
  REQUIRE(process_enable(x.function, ENABLE_PASID), "the exerciser has no PASID capability");
  for (u32 mode = PROCESS_DIRECTORY_8; mode <= PROCESS_DIRECTORY_20; mode++) {
    if (!process_mode_offered(mode)) {
      print("the IOMMU has no process directory of mode %u: it is left out\n", mode);
      continue;
    }
    step("PASIDs 0x%x and 0x%x with the same addresses, process directory mode %u", pasids[mode - 1][0],
         pasids[mode - 1][1], mode);
    two_processes(mode, pasids[mode - 1]);
  }
}

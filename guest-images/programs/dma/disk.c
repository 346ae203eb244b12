#include "crc32.h"
#include "disk-header.h"
#include "parts.h"
#include "prng.h"
#include "program.h"

#define CHUNK (128ul << 10)
#define DEPTH 8u
#define PATTERN_SEED 0x1f2e3d4cu

// Moves `bytes` between the disk and the buffer, the chunks dealt out to all I/O queues in turn.
static void transfer(struct nvme *nvme, u8 opcode, u64 disk_offset, const struct dma_buffer *buffer, u64 bytes) {
  u64 chunk = MIN(CHUNK, nvme->transfer_bytes);
  u32 turn = 0;
  for (u64 at = 0; at < bytes; at += chunk, turn++)
    nvme_start(nvme, 1 + turn % nvme->io_queues, opcode, disk_offset + at, buffer, at, MIN(chunk, bytes - at), DEPTH);
  for (u32 queue = 1; queue <= nvme->io_queues; queue++) {
    u16 status = nvme_drain(nvme, queue);
    REQUIRE(status == NVME_SUCCESS, "NVMe queue %u: a command ended with status 0x%x", queue, status);
  }
}

// The xorshift32 words of `seed`, into the buffer or compared with it; returns the number of wrong words.
static u32 pattern(const struct dma_buffer *buffer, u64 bytes, u32 seed, bool compare) {
  u32 wrong = 0;
  for (u64 at = 0; at < bytes; at += 4) {
    u32 *word = (u32 *)dma_pointer(buffer, at), expected = xorshift32(&seed);
    if (!compare)
      *word = expected;
    else if (*word != expected)
      wrong++;
  }
  return wrong;
}

static u32 neighbours(const struct dma_buffer *buffer) {
  u32 count = 0;
  for (u32 i = 1; i < buffer->pages; i++) count += buffer->page[i] == buffer->page[i - 1] + PAGE_BYTES;
  return count;
}

static struct disk_header read_header(struct nvme *nvme, struct dma_buffer *page) {
  transfer(nvme, NVME_READ, 0, page, PAGE_BYTES);
  struct disk_header header = *(struct disk_header *)dma_pointer(page, 0);
  u64 disk_bytes = nvme->blocks * nvme->block_bytes;
  REQUIRE(memcmp(header.magic, DISK_MAGIC, 8) == 0, "the disk does not begin with %s", DISK_MAGIC);
  REQUIRE(header.version == DISK_VERSION, "the disk image has version %u, not %u", header.version, DISK_VERSION);
  REQUIRE(header.data_bytes % PAGE_BYTES == 0 && header.data_bytes <= 8ul << 20 &&
              header.data_offset + header.data_bytes <= disk_bytes,
          "the data area of the disk is out of bounds");
  REQUIRE(header.writeback_bytes % PAGE_BYTES == 0 && header.writeback_bytes <= header.data_bytes &&
              header.writeback_offset + header.writeback_bytes <= disk_bytes,
          "the write-back area of the disk is out of bounds");
  return header;
}

void disk_part(struct nvme *nvme) {
  struct dma_buffer buffer;
  dma_buffer_open(&buffer, nvme->space, 1);
  struct disk_header header = read_header(nvme, &buffer);
  dma_buffer_close(&buffer);

  dma_buffer_open(&buffer, nvme->space, (u32)(header.data_bytes / PAGE_BYTES));
  print("buffer: IOVA 0x%lx, %u pages, %u of them beside their predecessor in memory, first at 0x%lx\n", buffer.iova,
        buffer.pages, neighbours(&buffer), buffer.page[0]);
  step("read %lu KiB from the NVMe disk, %u commands in flight on each of %u queues", header.data_bytes >> 10, DEPTH,
       nvme->io_queues);
  transfer(nvme, NVME_READ, header.data_offset, &buffer, header.data_bytes);
  u32 crc = dma_crc32(&buffer, 0, header.data_bytes);
  print("read: bytes=%lu crc32=0x%08x expected=0x%08x\n", header.data_bytes, crc, header.data_crc32);
  REQUIRE(crc == header.data_crc32, "the CRC of what was read is wrong");

  u64 bytes = header.writeback_bytes;
  pattern(&buffer, bytes, PATTERN_SEED, false);
  crc = dma_crc32(&buffer, 0, bytes);
  step("write %lu KiB back, flush, and read them again", bytes >> 10);
  transfer(nvme, NVME_WRITE, header.writeback_offset, &buffer, bytes);
  u16 status = nvme_wait(nvme, 1, nvme_start_flush(nvme, 1));
  REQUIRE(status == NVME_SUCCESS, "the NVMe flush ended with status 0x%x", status);
  for (u64 at = 0; at < bytes; at += PAGE_BYTES) memset(dma_pointer(&buffer, at), 0, PAGE_BYTES);
  transfer(nvme, NVME_READ, header.writeback_offset, &buffer, bytes);
  u32 wrong = pattern(&buffer, bytes, PATTERN_SEED, true);
  print("write: bytes=%lu offset=%lu seed=0x%08x crc32=0x%08x wrong_words=%u\n", bytes, header.writeback_offset,
        PATTERN_SEED, crc, wrong);
  REQUIRE(wrong == 0, "%u words read back are not what was written", wrong);
  dma_buffer_close(&buffer);
}

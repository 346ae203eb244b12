// The first 4096 bytes of the disk image (made by guest-images/disk-image.ts); little-endian.
#pragma once
#include "base.h"

#define DISK_MAGIC "IOMMULAB"
#define DISK_VERSION 1

struct disk_header {
  char magic[8];
  u32 version;
  u32 reserved0;
  u64 data_offset;       // bytes from the start of the disk
  u64 data_bytes;
  u32 data_crc32;        // as in zlib
  u32 reserved1;
  u64 writeback_offset;  // the area that the guest overwrites
  u64 writeback_bytes;
};

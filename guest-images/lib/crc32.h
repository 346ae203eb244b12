// CRC-32 as in Ethernet and zlib (polynomial 0xedb88320, reflected).
#pragma once
#include "base.h"

/// Continues `crc` (0 at the start) over `bytes` bytes.
u32 crc32(u32 crc, const void *data, u64 bytes);

// What the kernel's side and the processes' side of the program share.
#pragma once
#include "user.h"

/// a0 ring, a1 completions, a2 depth; returns the address of the doorbells, or 0.
#define CALL_OPEN_QUEUE USER_FIRST_OWN

// Reports of a process.
#define REPORT_TRANSACTIONS 0
#define REPORT_BYTES 1
#define REPORT_PAGE_REQUESTS 2
#define REPORT_MISSES 3       // transactions that had to ask for pages
#define REPORT_MISS_NS 4      // their latencies, added
#define REPORT_SLOWEST_NS 5
#define REPORT_HIT_NS 6       // the latencies of the others, added
#define REPORT_ERROR 7        // first status that is not success, plus 1
#define REPORT_HISTOGRAM 8    // of misses: below 2, 4, 8, 16, 32, 64, 128 µs, and above
#define HISTOGRAM_BUCKETS 8u

/// Lets the device fill, copy and compare memory that nobody has touched, and checks every word.
void lazy_worker(u64 pages);
/// Goes round a working set that is larger than memory.
void pressed_worker(u64 rounds);
/// Reads the disk through its own addresses, by the device.
void reading_worker(u64 pages);
/// Starts transactions on ever new pages, and never ends.
void endless_worker(u64 argument);

// The parts of the program, in the order in which they run.
#pragma once
#include "dma.h"
#include "exerciser.h"
#include "process.h"

extern struct exerciser x;

/// Runs a transaction and requires this status.
struct exerciser_completion expect(const char *name, struct exerciser_descriptor descriptor, u32 status);
/// Waits for a fault record of the exerciser at this address, and takes all there are; prints the first.
void expect_fault(u64 iova, u32 cause);

/// Every operation with the function's own address space.
void operations_part(void);
/// Two PASIDs with the same addresses in process directories of all three sizes.
void processes_part(void);
/// Translation requests, translated requests, invalidations.
void translations_part(void);
/// Page requests: one by one, in groups, refused.
void pages_part(void);

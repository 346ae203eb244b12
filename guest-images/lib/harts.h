// Other harts, through SBI HSM. Only the boot hart may print or take pages.
#pragma once
#include "base.h"

/// The hart id of the `index`-th hart of the device tree; false when there are fewer.
bool hart_at(u32 index, u64 *hart);
/// Starts a hart in `run(argument)`, interrupts off; it stops when that returns. Returns the SBI error.
i64 hart_start(u64 hart, void (*run)(u64 argument), u64 argument);

#define HART_STARTED 0
#define HART_STOPPED 1
/// The state that SBI HSM names, or a negative error.
i64 hart_state(u64 hart);

// The hart's S-level interrupt file (AIA chapter 3): message-signalled interrupts without any wire.
#pragma once
#include "base.h"

/// Finds the S-level interrupt file of this hart and switches it on; false when the device tree has none.
bool imsic_open(void);
/// Where a device writes its MSI data: the guest-physical address of the interrupt file.
u64 imsic_address(void);
/// The same of another hart; 0 when it has none.
u64 imsic_address_of(u64 hart);
/// Switches on this hart's file, and `identity` in it: what a hart other than the boot hart calls.
void imsic_open_here(u32 identity);
/// A free interrupt identity that runs `handler(context)`; the identity is the MSI data.
u32 imsic_take(void (*handler)(void *context), void *context);
/// How many external interrupts were claimed.
u64 imsic_count(void);

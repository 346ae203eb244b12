// What the kernel's side and the process's side of the program share.
#pragma once
#include "user.h"

/// a0 ring, a1 completions; returns the address of the doorbells.
#define CALL_OPEN_QUEUE USER_FIRST_OWN
#define ATTEMPTS 5u
#define VICTIM_AT (USER_HEAP + (8ul << 20))
#define SECRET 0x5ec2e75ec2e75ul

/// Waits with a secret in its heap.
void victim(u64 unused);
/// Tries to reach the victim, whose PASID it is told; reports the statuses.
void attacker(u64 victim_pasid);

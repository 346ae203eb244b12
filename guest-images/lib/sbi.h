// Calls to the supervisor execution environment (SBI 2.0).
#pragma once
#include "base.h"

#define SBI_BASE 0x10
#define SBI_TIME 0x54494d45
#define SBI_IPI 0x735049
#define SBI_RFENCE 0x52464e43
#define SBI_HSM 0x48534d
#define SBI_SRST 0x53525354
#define SBI_DBCN 0x4442434e

struct sbi_result {
  i64 error;
  u64 value;
};

struct sbi_result sbi_call(u64 extension, u64 function, u64 a0, u64 a1, u64 a2);
bool sbi_has(u64 extension);
u64 sbi_version(void);
void sbi_console_put(char c);
/// SRST: type 0 shutdown, 1 cold reboot, 2 warm reboot. Returns only when the call is refused.
void sbi_reset(u32 type, u32 reason);

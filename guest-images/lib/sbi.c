#include "sbi.h"

struct sbi_result sbi_call(u64 extension, u64 function, u64 x0, u64 x1, u64 x2) {
  register u64 a0 __asm__("a0") = x0;
  register u64 a1 __asm__("a1") = x1;
  register u64 a2 __asm__("a2") = x2;
  register u64 a6 __asm__("a6") = function;
  register u64 a7 __asm__("a7") = extension;
  __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
  return (struct sbi_result){(i64)a0, a1};
}

bool sbi_has(u64 extension) {
  struct sbi_result result = sbi_call(SBI_BASE, 3, extension, 0, 0);
  return result.error == 0 && result.value != 0;
}

u64 sbi_version(void) { return sbi_call(SBI_BASE, 0, 0, 0, 0).value; }

void sbi_console_put(char c) {
  // DBCN where there is one, else the legacy console call.
  if (sbi_has(SBI_DBCN))
    sbi_call(SBI_DBCN, 2, (u8)c, 0, 0);
  else
    sbi_call(1, 0, (u8)c, 0, 0);
}

void sbi_reset(u32 type, u32 reason) { sbi_call(SBI_SRST, 0, type, reason, 0); }

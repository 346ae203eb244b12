// What a program is given, and how it ends.
#pragma once
#include "base.h"
#include "console.h"

extern u64 hart_id;

/// The program; returning from it is passing.
void program(void);

/// Says "passed" and tells the test finisher.
__attribute__((noreturn)) void pass(void);
/// Says "failed: <why>" and tells the test finisher `code` (1…65535).
__attribute__((noreturn)) void fail(u32 code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/// Asks for a reset.
__attribute__((noreturn)) void reset_machine(void);

#define REQUIRE(condition, ...) \
  do {                          \
    if (!(condition)) fail(1, __VA_ARGS__); \
  } while (0)

/// The value of `name=` on /chosen bootargs as a number (decimal or 0x…, suffix K or M), or `otherwise`.
u64 argument(const char *name, u64 otherwise);

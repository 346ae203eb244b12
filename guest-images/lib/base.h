// Vocabulary of every guest program: integer names, CSR and MMIO access, fences.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef signed int i32;
typedef signed long i64;
#if __STDC_VERSION__ < 202000L
#define bool _Bool
#define true 1
#define false 0
#endif

#define NULL ((void *)0)
#define PAGE_BYTES 4096ul
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define ALIGN_UP(value, alignment) (((value) + (alignment) - 1) & ~((u64)(alignment) - 1))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

// CSRs by number, so that no assembler has to know the extension (privileged spec, Sstc, AIA).
#define CSR_SSTATUS 0x100
#define CSR_SIE 0x104
#define CSR_STVEC 0x105
#define CSR_SCAUSE 0x142
#define CSR_SIP 0x144
#define CSR_STIMECMP 0x14d
#define CSR_SISELECT 0x150
#define CSR_SIREG 0x151
#define CSR_STOPEI 0x15c
#define CSR_SATP 0x180
#define CSR_TIME 0xc01
#define CSR_INSTRET 0xc02

#define SSTATUS_SIE (1ul << 1)
#define INTERRUPT_SOFTWARE 1
#define INTERRUPT_TIMER 5
#define INTERRUPT_EXTERNAL 9

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define csr_read(csr) \
  ({ u64 csr_value_; __asm__ volatile("csrr %0, " TEXT(csr) : "=r"(csr_value_)::"memory"); csr_value_; })
#define csr_write(csr, value) __asm__ volatile("csrw " TEXT(csr) ", %0" ::"r"((u64)(value)) : "memory")
#define csr_set(csr, value) __asm__ volatile("csrs " TEXT(csr) ", %0" ::"r"((u64)(value)) : "memory")
#define csr_clear(csr, value) __asm__ volatile("csrc " TEXT(csr) ", %0" ::"r"((u64)(value)) : "memory")
#define csr_swap(csr, value) \
  ({ u64 csr_value_; __asm__ volatile("csrrw %0, " TEXT(csr) ", %1" : "=r"(csr_value_) : "r"((u64)(value)) : "memory"); csr_value_; })

// What the hart wrote to memory is seen by a device before the device is told (and the other way round).
static inline void fence(void) { __asm__ volatile("fence iorw, iorw" ::: "memory"); }
static inline void wait_for_interrupt(void) { __asm__ volatile("wfi" ::: "memory"); }

static inline u8 mmio_read8(u64 address) { u8 v = *(volatile u8 *)address; fence(); return v; }
static inline u16 mmio_read16(u64 address) { u16 v = *(volatile u16 *)address; fence(); return v; }
static inline u32 mmio_read32(u64 address) { u32 v = *(volatile u32 *)address; fence(); return v; }
static inline u64 mmio_read64(u64 address) { u64 v = *(volatile u64 *)address; fence(); return v; }
static inline void mmio_write8(u64 address, u8 v) { fence(); *(volatile u8 *)address = v; }
static inline void mmio_write16(u64 address, u16 v) { fence(); *(volatile u16 *)address = v; }
static inline void mmio_write32(u64 address, u32 v) { fence(); *(volatile u32 *)address = v; }
static inline void mmio_write64(u64 address, u64 v) { fence(); *(volatile u64 *)address = v; }

void *memcpy(void *to, const void *from, u64 bytes);
void *memset(void *to, int value, u64 bytes);
int memcmp(const void *a, const void *b, u64 bytes);
u64 strlen(const char *text);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, u64 bytes);

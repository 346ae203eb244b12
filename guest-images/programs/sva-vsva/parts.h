// What the kernel's side and the processes' side of the program share.
#pragma once
#include "user.h"

/// a0 submissions, a1 completions, a page each; returns the address of the submission doorbell (completion: 4 behind).
#define CALL_OPEN_DISK USER_FIRST_OWN
/// a0 the ring, a page; returns the address of the ring's own registers.
#define CALL_OPEN_WIRE (USER_FIRST_OWN + 1)

#define FILE_AT (1ul << 20)           // of the disk
#define FILE_BYTES (256ul << 10)      // each process reads so much
#define FRAME_BYTES 1024u
#define FRAMES (FILE_BYTES / FRAME_BYTES)
#define HEADER_BYTES 32u              // addresses, EtherType, and what the frame is
#define SECRET (USER_HEAP + (8ul << 20))  // where the first process keeps a secret
#define SECRET_WORD 0x5ec2e75ec2e75ul

// Reports of a process.
#define REPORT_COMMANDS 0
#define REPORT_FRAMES 1
#define REPORT_TICKS 2
#define REPORT_STATUS 3  // … and behind: of each attempt of the thief

/// Argument: the number of the process, and the two stations' addresses in the words of its stack page are not needed.
void copier(u64 number);
void thief(u64 unused);

// The parts of the program, in the order in which they run.
#pragma once
#include "nvme.h"

#define SUCCESS 0x000
#define INVALID_OPCODE 0x001
#define INVALID_FIELD 0x002
#define DATA_TRANSFER_ERROR 0x004
#define ABORTED 0x007
#define ABORTED_QUEUE_DELETED 0x008
#define INVALID_NAMESPACE 0x00b
#define SEQUENCE_ERROR 0x00c
#define INVALID_SGL_SEGMENT 0x00d
#define SGL_LENGTH_INVALID 0x00f
#define SGL_TYPE_INVALID 0x011
#define PRP_OFFSET_INVALID 0x013
#define LBA_OUT_OF_RANGE 0x080
#define COMPLETION_QUEUE_INVALID 0x100
#define INVALID_QUEUE 0x101
#define INVALID_QUEUE_SIZE 0x102
#define TOO_MANY_EVENT_REQUESTS 0x105
#define INVALID_VECTOR 0x108
#define INVALID_LOG_PAGE 0x109
#define INVALID_FORMAT 0x10a
#define INVALID_QUEUE_DELETION 0x10c
#define NOT_SAVEABLE 0x10d
#define NOT_NAMESPACE_SPECIFIC 0x10f
#define COMPARE_FAILURE 0x285

#define ADMIN_DELETE_SQ 0x00
#define ADMIN_CREATE_SQ 0x01
#define ADMIN_GET_LOG 0x02
#define ADMIN_DELETE_CQ 0x04
#define ADMIN_CREATE_CQ 0x05
#define ADMIN_IDENTIFY 0x06
#define ADMIN_ABORT 0x08
#define ADMIN_SET_FEATURES 0x09
#define ADMIN_GET_FEATURES 0x0a
#define ADMIN_EVENT 0x0c
#define ADMIN_FORMAT 0x80
#define IO_COMPARE 0x05
#define IO_WRITE_ZEROES 0x08
#define IO_DATASET 0x09
#define IO_VERIFY 0x0c

extern struct nvme nvme;
extern struct dma_space space;
/// One page for what admin commands return.
extern struct dma_buffer data;
/// The controller is QEMU's, which differs in places where it does not follow the specification.
extern bool is_qemu;
/// SGLS of Identify Controller.
extern u32 sgl_support;
#define SGL_BIT_BUCKETS (1u << 16)

/// Runs a command on queue 0 or an I/O queue and requires this status.
u32 expect(const char *name, u32 queue, struct nvme_command command, u16 status);
/// Brings the controller up again, with all its queues.
void open_controller(void);

void identify_part(void);
void features_part(void);
void logs_part(void);
void blocks_part(void);
void lists_part(void);
void malformed_part(void);
void events_part(void);
void queues_part(void);
void format_part(void);
void life_part(void);

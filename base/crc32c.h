/*
 * CRC32C (Castagnoli, polynomial 0x1EDC6F41, reflected 0x82F63B78; RFC 3720 appendix B.4).
 * Uses the processor's instruction where it has one; same result everywhere.
 */
#ifndef PL_BASE_CRC32C_H
#define PL_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues from @crc (0 to start). Thread-safe, pure. */
uint32_t pl_crc32c(uint32_t crc, const void *data, size_t len);

/* The table version, always available: for tests and for hosts without the instruction. */
uint32_t pl_crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif

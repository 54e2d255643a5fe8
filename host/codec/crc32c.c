/* CRC32C by ISA-L, which picks the instructions of the machine at its first call. No state of
 * ours. */
#include "codec/codec.h"

#include <isa-l/crc.h>

/* ISA-L takes an int length. */
#define CHUNK_BYTES ((size_t)1 << 30)

uint32_t codec_crc32c(uint32_t crc, const void *p, size_t n)
{
    /* It only reads, but its prototype lacks the const. */
    union {
        const void *in;
        unsigned char *out;
    } at = {p};
    while (n > 0) {
        size_t step = n < CHUNK_BYTES ? n : CHUNK_BYTES;
        crc = ~crc32_iscsi(at.out, (int)step, ~crc);
        at.out += step;
        n -= step;
    }
    return crc;
}

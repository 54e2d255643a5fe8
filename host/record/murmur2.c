/* murmur2, 32 bits, with the seed and the byte order of Kafka's Java client; its default
 * partitioner. No state. */
#include "record/record.h"

#include <endian.h>
#include <string.h>

#define SEED 0x9747b28cu

uint32_t record_murmur2(const void *p, size_t n)
{
    const uint32_t m = 0x5bd1e995u;
    const uint8_t *at = p;
    uint32_t h = SEED ^ (uint32_t)n;
    for (; n >= 4; at += 4, n -= 4) {
        uint32_t k;
        memcpy(&k, at, sizeof(k));
        k = le32toh(k) * m;
        k ^= k >> 24;
        h = (h * m) ^ (k * m);
    }
    switch (n) {
    case 3:
        h ^= (uint32_t)at[2] << 16;
        __attribute__((fallthrough));
    case 2:
        h ^= (uint32_t)at[1] << 8;
        __attribute__((fallthrough));
    case 1:
        h ^= at[0];
        h *= m;
        break;
    default:
        break;
    }
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return h;
}

int32_t record_partition_for_key(struct slice key, int32_t partitions)
{
    return (int32_t)(record_murmur2(key.ptr, key.len) & 0x7fffffffu) % partitions;
}
